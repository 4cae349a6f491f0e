"""Three times more requests than the workers can serve: how many are still served well, and how fast is a refusal?"""

from collections.abc import Sequence
from typing import Any

from loadtest.overload.bench import GRACE_S, SLO_TTFT_S, WORKER, Bench
from loadtest.overload.cluster import Cluster
from loadtest.overload.load import TENANTS, Shape, requests
from loadtest.overload.measure import HEADING, Figures, figures

WORKERS = 2
FACTOR = 3.0
SHAPE = Shape(prompt=(50, 150), output=(16, 48))
_SWEEP = (0.7, 0.85, 1.0, 1.15, 1.3)
"""Rates that are tried for the peak, as parts of what the simulated engines can do."""
_QUICK_SWEEP = (1.0, 1.2)


async def run(bench: Bench) -> dict[str, Any]:
    """Find the peak goodput through the gateway, then offer three times as much there and to its alternatives."""
    bench.say(f"overload: {WORKERS} workers, {len(TENANTS)} tenants, first token within {SLO_TTFT_S:g} s\n{HEADING}")
    sweep: list[Figures] = []
    found: dict[str, Figures] = {}
    engines, rate = WORKERS * engine_rps(SHAPE), 0.0
    for name, front in bench.fronts(WORKERS).items():
        async with bench.cluster(front, WORKERS) as cluster:
            if name == "gateway":
                sweep = await _sweep(bench, cluster)
                rate = FACTOR * max(figures.goodput_rps for figures in sweep)
            found[name] = await _offer(bench, cluster, rate, bench.seconds(15, 5))
            bench.say(f"{found[name]}   {FACTOR:g} x peak, {name}")
    return {
        "slo_ttft_s": SLO_TTFT_S,
        "engines_rps": round(engines, 1),
        "peak_rps": rate / FACTOR,
        "sweep": [figures.json() for figures in sweep],
        "overload": {name: figures.json() for name, figures in found.items()},
        "summary": {"peak_vs_engines": round(rate / FACTOR / engines, 3), **_summary(found, rate / FACTOR)},
    }


def engine_rps(shape: Shape) -> float:
    """Requests a second that one simulated engine can do at most: each takes its part of full decoding steps, and
    its prompt's time, in which nobody decodes.
    """
    prompt, output = (sum(lengths) / 2 for lengths in (shape.prompt, shape.output))
    batch = WORKER["max_num_seqs"]
    step_s = WORKER["sim_tpot_ms"] / 1000 * (1 + WORKER["sim_tpot_growth"] * (batch - 1))
    return 1 / (output * step_s / batch + prompt / WORKER["sim_prefill_tokens_per_s"])


async def _sweep(bench: Bench, cluster: Cluster) -> list[Figures]:
    found = []
    for part in _QUICK_SWEEP if bench.quick else _SWEEP:
        rate = part * WORKERS * engine_rps(SHAPE)
        found.append(await _offer(bench, cluster, rate, bench.seconds(9, 5)))
        bench.say(f"{found[-1]}   {part:.0%} of what the engines can do, gateway")
    return found


async def _offer(bench: Bench, cluster: Cluster, rate: float, seconds: float) -> Figures:
    # A seed of its own for each load: the same prompts again would be in the workers' caches.
    arrivals = requests(f"overload {rate}", TENANTS, rate, seconds, SHAPE)
    calls, cpu = await cluster.offer(arrivals, grace_s=GRACE_S)
    return figures(calls, bench.warm_up_s, seconds, SLO_TTFT_S, cpu)


def _summary(found: dict[str, Figures], peak: float) -> dict[str, Any]:
    def by_way(name: str, values: dict[str, Any], ways: Sequence[str]) -> dict[str, Any]:
        return {name if way == "gateway" else f"{name}_{way}": values[way] for way in ways}

    ways = list(found)
    return {
        **by_way("goodput_vs_peak", {way: round(found[way].goodput_rps / peak, 3) for way in ways}, ways),
        **by_way("accepted_ttft_p99_ms", {way: found[way].ttft_p99_ms for way in ways}, ways),
        "slo_ttft_ms": SLO_TTFT_S * 1000,
        **by_way("refusal_p99_ms", {way: found[way].refusal_p99_ms for way in ways}, ways),
    }
