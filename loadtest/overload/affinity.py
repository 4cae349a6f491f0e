"""Forty system prompts over four workers that cannot each hold them all: how much of them is found in the caches?"""

from collections.abc import Sequence
from typing import Any

import orjson

from capstan.worker.simulate import protocol, text
from capstan.worker.simulate.prefix_cache import PrefixCache
from loadtest.overload.bench import GRACE_S, POOL, SLO_TTFT_S, WORKER, Bench
from loadtest.overload.client import Arrival
from loadtest.overload.cluster import Front, gateway, peer
from loadtest.overload.load import Shape, shared_prefixes
from loadtest.overload.measure import figures

WORKERS = 4
_SHAPE = Shape(prompt=(20, 60), output=(8, 24))
_PREFIXES = {"prefixes": 40, "prefix_words": 1000, "exponent": 1.0}
_RATE = 100.0
_WORKER = {
    **WORKER,
    "max_model_len": 2048,
    "sim_kv_blocks": 1024,  # 16,384 tokens: four hold what all requests share, one holds less than half of it
}
_UNBOUNDED = 10**9


async def run(bench: Bench) -> dict[str, Any]:
    """The same requests with prefix affinity and without, on workers with cold caches."""
    seconds = bench.seconds(11, 2)
    arrivals = shared_prefixes("affinity", _RATE, seconds, _SHAPE, **_PREFIXES)
    ideal = ideal_hit_rate(arrivals)
    bench.say(f"affinity: {len(arrivals)} requests; one ideal cache finds {ideal:.1%} of the prompts' tokens")
    bench.say(f"{'found':>8} {'of ideal':>8} {'imbalance':>9} {'TTFT p50':>9} {'p99 ms':>8}   outcomes")
    found: dict[str, dict[str, Any]] = {}
    for name, front in _fronts(bench).items():
        async with bench.cluster(front, WORKERS, _WORKER) as cluster:
            calls, cpu = await cluster.offer(arrivals, grace_s=GRACE_S)
            seen = figures(calls, 0.0, seconds, SLO_TTFT_S, cpu)
            found[name] = {**_caches(await cluster.metrics(), ideal), "figures": seen.json()}
        bench.say(
            f"{found[name]['hit_rate']:8.1%} {found[name]['hit_vs_ideal']:8.3f} {found[name]['imbalance']:9.3f} "
            f"{seen.ttft_p50_ms or 0:9.1f} {seen.ttft_p99_ms or 0:8.1f}   {seen.outcomes}   {name}"
        )
    return {"ideal_hit_rate": round(ideal, 4), "ways": found, "summary": _summary(found)}


def ideal_hit_rate(arrivals: Sequence[Arrival]) -> float:
    """The part of all prompt tokens that one cache without bounds would find, the requests coming one by one."""
    cache = PrefixCache(_UNBOUNDED)
    cached = total = 0
    for arrival in arrivals:
        prompt, _ = protocol.prompt_of(orjson.loads(arrival.body), chat=True)
        tokens = text.token_ids(text.tokenize(prompt))
        lease = cache.acquire(tokens, 1)
        assert lease is not None
        cache.release(lease)
        cached += lease.cached_tokens
        total += len(tokens)
    return cached / total


def _fronts(bench: Bench) -> dict[str, Front | None]:
    fronts: dict[str, Front | None] = {"gateway": gateway(bench.directory, POOL, "prefix"), "round_robin": None}
    if not bench.quick:
        fronts |= {
            "gateway_least_tokens": gateway(bench.directory, POOL, "least_tokens"),
            "peer_round_robin": peer(bench.router, "round_robin"),
        }
    return fronts | {"peer_cache_aware": peer(bench.router, "cache_aware")}


def _caches(workers: Sequence[dict[str, float]], ideal: float) -> dict[str, Any]:
    """Hit rate over all workers, and the busiest worker's tokens (prompt and output) against the mean."""
    hits, queries = (
        sum(worker[f"vllm:prefix_cache_{name}_total"] for worker in workers) for name in ("hits", "queries")
    )
    tokens = [worker["vllm:prompt_tokens_total"] + worker["vllm:generation_tokens_total"] for worker in workers]
    return {
        "hit_rate": round(hits / queries, 4),
        "hit_vs_ideal": round(hits / queries / ideal, 4),
        "imbalance": round(max(tokens) * len(tokens) / sum(tokens), 4),
        "tokens": tokens,
    }


def _summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    summary = {}
    for name, figure in (("prefix_hit_vs_ideal", "hit_vs_ideal"), ("imbalance", "imbalance")):
        for way, caches in found.items():
            end = "" if way == "gateway" else "_" + way.removeprefix("gateway_")
            summary[name + end] = round(caches[figure], 3)
    return summary
