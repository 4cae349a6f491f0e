"""The comparisons: which arms run beside each other, and what each is to show."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from capstan.common.settings import CommonSettings
from capstan.jobs.quantize.awq import NOTE, native_checkpoint, note
from loadtest.llm_bench import capacity as model
from loadtest.llm_bench.bench import Bench, paired_ratio
from loadtest.llm_bench.crosscheck import crosscheck
from loadtest.llm_bench.servers import gateway, halves, litellm, naive, vllm
from loadtest.llm_bench.sweep import at_rate, sweep

Result = dict[str, Any]
_LOADS = (10, 50, 100)
"""Requests a second for which the capacity model says how many replicas they need."""


class DidNotRun(Exception):
    """A comparison cannot run here; the message says what to do."""


async def serving(bench: Bench) -> Result:
    """Naive serving, vLLM, and gateways before the same vLLM: one load, turn by turn."""
    await bench.base()
    await bench.servers.start(naive("naive", 1), naive("naive-batch", 32))
    await bench.servers.start(litellm("litellm", bench.directory, bench.target("vllm").url))
    slow = bench.plan.concurrency * bench.plan.slow_waves
    arms = [
        bench.arm("naive", requests=slow),
        bench.arm("naive-batch", requests=2 * slow),
        bench.arm("vllm"),
        bench.arm("gateway", processes=("vllm", "gateway")),
        bench.arm("litellm", processes=("vllm", "litellm")),
    ]
    found = await bench.rounds(arms)
    cells = found["cells"]
    ratios = {f"{arm}_vs_vllm": paired_ratio(cells, arm, "vllm") for arm in ("gateway", "litellm")}
    reductions = {
        f"cost_reduction_vs_{arm}": _reduction(paired_ratio(cells, arm, "gateway")) for arm in ("naive", "naive-batch")
    }
    return {**found, **ratios, **reductions}


async def lengths(bench: Bench) -> Result:
    """Answers as long and as uneven as ShareGPT's: a static batch runs until its longest is complete."""
    await bench.base()
    await bench.servers.start(naive("naive-batch", 32))
    number = bench.plan.long_answers
    arms = [bench.arm(name, shape="sharegpt", requests=number) for name in ("naive-batch", "gateway")]
    found = await bench.rounds(arms, number=1)
    return {**found, "cost_reduction": _reduction(paired_ratio(found["cells"], "naive-batch", "gateway"))}


async def batching(bench: Bench) -> Result:
    """Continuous batching (Orca, OSDI 2022) on and off: `--max-num-seqs 1` generates for one request at a time."""
    slow = bench.plan.concurrency * bench.plan.slow_waves
    return await _feature(bench, "no-batching", {"max_num_seqs": 1}, requests=slow)


async def prefix_caching(bench: Bench) -> Result:
    """Prefix caching on and off, with eight system prompts of 512 tokens."""
    arguments = {"engine_args": "--no-enable-prefix-caching"}
    return await _feature(bench, "no-prefix-cache", arguments, shape="shared-prefix")


async def awq(bench: Bench) -> Result:
    """4-bit weights (AWQ) instead of 16-bit ones, for many requests and for one."""
    checkpoint = native_checkpoint(CommonSettings().cache_dir, quick=bench.quick)
    if not (checkpoint / NOTE).exists():
        raise DidNotRun("there is no AWQ checkpoint: run 'make quantize'")
    many = await _feature(bench, "awq", {"model": f"file:{checkpoint}"}, alone=True)
    return {**many, "checkpoint": note(checkpoint)}


async def workers(bench: Bench) -> Result:
    """One worker on all cores against two with half of them each, both behind the gateway."""
    first, second = halves()
    if not second:
        raise DidNotRun("two workers need two cores")
    await bench.base()
    await bench.servers.start(vllm("half-0", cores=first), vllm("half-1", cores=second))
    urls = [bench.target(name).url for name in ("half-0", "half-1")]
    await bench.servers.start(gateway("gateway-two", bench.directory, urls), key=bench.key)
    arms = [
        bench.arm("one-worker", "gateway", processes=("vllm", "gateway")),
        bench.arm("two-workers", "gateway-two", processes=("half-0", "half-1", "gateway-two")),
    ]
    found = await bench.rounds(arms)
    return {**found, "two_vs_one": paired_ratio(found["cells"], "two-workers", "one-worker")}


async def curve(bench: Bench) -> Result:
    """One server behind the gateway at rising concurrency: what the capacity model is fitted to."""
    await bench.base()
    arms = [bench.arm(f"gateway-{number}", "gateway", concurrency=number) for number in bench.plan.curve]
    return await bench.rounds(arms, number=min(3, bench.plan.rounds))


async def sustained(bench: Bench) -> Result:
    """The highest rate of Poisson arrivals within the SLO, through the gateway."""
    await bench.base()
    known = bench.done.get("serving", {}).get("arms", {}).get("gateway", {}).get("requests_s")
    start = known / 4 if known else 0.5
    target = bench.target("gateway")
    await at_rate(target, "random", start, 4, bench.slo)  # warms up
    return await sweep(
        lambda rate: at_rate(target, "random", rate, bench.plan.requests_at(rate), bench.slo),
        bench.slo,
        start,
        bench.plan.halvings,
        bench.say,
    )


async def capacity(bench: Bench) -> Result:
    """The capacity model, fitted to the curve, beside the sweep that it has not seen. Nothing is measured."""
    try:
        engine, slo = model.of_results(bench.done)
        sweep_points, best = bench.done["sustained"]["points"], bench.done["sustained"]["sustained"]
        found = model.check(engine, sweep_points, best and best["rate"], slo)
    except model.CapacityError as error:
        raise DidNotRun(str(error)) from None
    try:
        replicas = {str(rate): model.replicas_for(engine, "random", rate, slo) for rate in _LOADS}
    except model.CapacityError:
        replicas = {}  # no number of this server keeps the SLO
    return {**found, "engine": asdict(engine), "replicas": replicas}


async def _feature(bench: Bench, name: str, settings: Result, *, alone: bool = False, **load: Any) -> Result:
    """The base server against one that has other `settings`. `alone`: also for one request at a time.

    Both get the same number of requests. Above 1, `vs_base` says that the other settings give more tokens a second.
    """
    await bench.base()
    await bench.servers.start(vllm(name, **settings))
    arms = [bench.arm("vllm", **load), bench.arm(name, **load)]
    if alone:
        arms += [bench.arm(f"{server}-1", server, concurrency=1) for server in ("vllm", name)]
    found = await bench.rounds(arms)
    result = {**found, "vs_base": paired_ratio(found["cells"], name, "vllm")}
    if alone:
        result["vs_base_1"] = paired_ratio(found["cells"], f"{name}-1", "vllm-1")
    return result


def _reduction(ratio: float | None) -> float | None:
    """By how much a million tokens cost less, from the dearer arm's tokens a second over ours on the same machine."""
    return None if ratio is None else round(1 - ratio, 4)


COMPARISONS: dict[str, Callable[[Bench], Awaitable[Result]]] = {
    "serving": serving,
    "curve": curve,
    "sustained": sustained,
    "capacity": capacity,
    "batching": batching,
    "prefix-caching": prefix_caching,
    "awq": awq,
    "workers": workers,
    "lengths": lengths,
    "crosscheck": crosscheck,
}
