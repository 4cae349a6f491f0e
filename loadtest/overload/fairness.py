"""A tenant that floods beside a quiet one: how much longer does the quiet one wait for its first token?"""

from random import Random
from typing import Any

from loadtest.overload.bench import GRACE_S, SLO_TTFT_S, Bench
from loadtest.overload.client import Arrival
from loadtest.overload.load import TENANTS, chat, poisson
from loadtest.overload.measure import HEADING, Figures, figures
from loadtest.overload.overload import SHAPE, WORKERS, engine_rps

QUIET, FLOODER = TENANTS[:2]
_QUIET_PART = 0.5
"""The quiet tenant's rate, as a part of its fair one: half of what the engines can do."""
_FLOOD_PART = 10.0


async def run(bench: Bench) -> dict[str, Any]:
    """The quiet tenant alone and beside the flooder, each way."""
    fair = WORKERS * engine_rps(SHAPE) / 2
    bench.say(f"fairness: the quiet tenant at {_QUIET_PART:g} x its fair rate, the flooder at {_FLOOD_PART:g} x")
    bench.say(HEADING)
    seconds = bench.seconds(13, 2)
    quiet_alone, quiet_flooded = (
        _arrivals(QUIET, beside, _QUIET_PART * fair, seconds) for beside in ("alone", "flooded")
    )
    flood = _arrivals(FLOODER, "flooded", _FLOOD_PART * fair, seconds)
    found: dict[str, dict[str, Figures]] = {}
    fronts = bench.fronts(WORKERS)
    for name in ("gateway", "direct") if bench.quick else fronts:
        async with bench.cluster(fronts[name], WORKERS) as cluster:
            found[name] = {}
            for beside, quiet, others in (("alone", quiet_alone, []), ("flooded", quiet_flooded, flood)):
                both = sorted([*quiet, *others], key=lambda arrival: arrival.at)
                calls, cpu = await cluster.offer(both, grace_s=GRACE_S)
                for tenant in {QUIET} if beside == "alone" else (QUIET, FLOODER):
                    of_tenant = [call for call in calls if call.arrival.tenant == tenant]
                    key = beside if tenant == QUIET else "flooder"
                    found[name][key] = figures(of_tenant, bench.warm_up_s, seconds, SLO_TTFT_S, cpu)
                    bench.say(f"{found[name][key]}   {key}, {name}")
    return {
        "fair_rps": round(fair, 1),
        "ways": {name: {key: figures.json() for key, figures in parts.items()} for name, parts in found.items()},
        "summary": _summary(found),
    }


def _arrivals(tenant: str, beside: str, rate: float, seconds: float) -> list[Arrival]:
    """A tenant's requests: at the same times alone and beside the other, not with the same prompts, which would be in
    the workers' caches.
    """
    times, prompts = Random(tenant), Random(f"{tenant} {beside}")  # noqa: S311 - load, not secrets
    return [Arrival(at, tenant, chat(prompts, SHAPE)) for at in poisson(times, rate, seconds)]


def _summary(found: dict[str, dict[str, Figures]]) -> dict[str, Any]:
    summary = {}
    for name, parts in found.items():
        alone, flooded = parts["alone"].ttft_p99_ms, parts["flooded"].ttft_p99_ms
        end = "" if name == "gateway" else f"_{name}"
        summary[f"quiet_tenant_ttft_ratio{end}"] = round(flooded / alone, 2) if alone and flooded else None
        # Without them, refusing the quiet tenant would look like serving it well.
        completed = parts["flooded"].outcomes.get("completed", 0)
        summary[f"quiet_tenant_completed{end}"] = round(completed / sum(parts["flooded"].outcomes.values()), 3)
    return summary
