"""The highest rate of Poisson arrivals that a server sustains under an SLO."""

from collections.abc import Awaitable, Callable
from typing import Any

from loadtest.llm_bench.bench import SEED, line
from loadtest.llm_bench.client import Target, client
from loadtest.llm_bench.figures import Slo, figures
from loadtest.llm_bench.workload import poisson, requests

Point = dict[str, Any]
_DOUBLINGS = 12


async def at_rate(target: Target, shape: str, rate: float, number: int, slo: Slo) -> Point:
    """Figures of one rate: an open loop of `number` requests, `rate` a second."""
    asked = requests(shape, number, f"{SEED} {rate:.4f}", "sweep")
    async with client(target) as sender:
        samples = await sender.open_loop(asked, poisson(rate, number, f"{SEED} {rate:.4f}"))
    return {"rate": round(rate, 4), "shape": shape, **figures(samples, slo)}


def holds(point: Point, slo: Slo) -> bool:
    """Whether a rate is sustained: nothing failed, and the p99 of TTFT and of TPOT are within the SLO."""
    ttft, tpot = point["ttft_ms"]["p99"], point["tpot_ms"]["p99"]
    return not point["failures"] and ttft is not None and ttft <= slo.ttft_ms and (tpot or 0.0) <= slo.tpot_ms


async def sweep(
    ask: Callable[[float], Awaitable[Point]], slo: Slo, start: float, halvings: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Double the rate from `start` until the SLO is not kept, then halve the distance `halvings` times.

    `ask` measures one rate. Returns every point, and the highest that held (None where none did).
    """
    points: list[Point] = []

    async def held(rate: float) -> bool:
        points.append(await ask(rate))
        kept = points[-1]["held"] = holds(points[-1], slo)
        say(f"{line(points[-1])}   {'held' if kept else 'not held'}")
        return kept

    good, bad = 0.0, start
    for _ in range(_DOUBLINGS):
        if not await held(bad):
            break
        good, bad = bad, bad * 2
    for _ in range(halvings):
        middle = (good + bad) / 2
        if await held(middle):
            good = middle
        else:
            bad = middle
    best = max((point for point in points if point["held"]), key=lambda point: point["rate"], default=None)
    return {"points": sorted(points, key=lambda point: point["rate"]), "sustained": best}
