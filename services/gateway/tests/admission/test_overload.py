"""Overload and floods in simulated time: two engines of the simulated worker's cost model behind the real gate.

`services/gateway/bench/gate.py` prints the figures.
"""

from functools import cache
from typing import Any

import pytest
from admission.simulation import Figures, Load, figures, run

from capstan.gateway.config import Pool

SLO_S = 1.0
CAPACITY = 24.5  # requests/s of two engines
SECONDS, WARM_S = 60.0, 10.0
KNOWN = {"max_concurrent": 32}  # the operator knows what an engine takes
FOUND = {"max_concurrent": 128, "ttft_target_s": 0.3}  # the limiter finds it


def _pool(**settings: Any) -> Pool:
    return Pool.model_validate(
        {"urls": ["http://a", "http://b"], "max_queued": 256, "queue_timeout_s": 0.8, **settings}
    )


def _four(times_capacity: float) -> list[Load]:
    return [Load(tenant, times_capacity * CAPACITY / 4) for tenant in ("amber", "birch", "cedar", "delta")]


@cache
def overloaded(times_capacity: float, *, adaptive: bool, gated: bool = True) -> Figures:
    """Four tenants that ask alike."""
    calls = run(_pool(**(FOUND if adaptive else KNOWN)), _four(times_capacity), seconds=SECONDS, gated=gated)
    return figures(calls, WARM_S, SECONDS, SLO_S)


@cache
def peak(*, adaptive: bool) -> float:
    """The greatest goodput at any load up to half above the capacity."""
    return max(overloaded(times, adaptive=adaptive).goodput for times in (0.8, 0.9, 1.0, 1.1, 1.25, 1.5))


def quiet(rate: float, flood: float, *, ttft_s: float) -> Figures:
    """What a tenant that asks `rate` times a second meets with, beside one that asks `flood` times."""
    loads = [Load("quiet", rate)] + ([Load("flood", flood)] if flood else [])
    calls = run(_pool(**KNOWN), loads, seconds=2 * SECONDS, ttft_s=ttft_s)
    return figures(calls, WARM_S, 2 * SECONDS, SLO_S, "quiet")


@pytest.mark.parametrize("adaptive", [False, True], ids=["known capacity", "found capacity"])
def test_at_three_times_its_capacity_a_pool_does_what_it_does_at_best(adaptive: bool) -> None:
    met = overloaded(3.0, adaptive=adaptive)
    assert met.goodput >= 0.95 * peak(adaptive=adaptive)
    assert met.ttft_p99 <= SLO_S
    assert met.refusal_p99 <= 0.02


def test_without_the_gate_nothing_is_good() -> None:
    assert overloaded(3.0, adaptive=False, gated=False).goodput < 0.1 * peak(adaptive=False)


@pytest.mark.parametrize("rate", [1.0, 3.0, 6.0])
def test_a_flood_does_not_make_a_quiet_tenant_wait(rate: float) -> None:
    """At 50 ms the engine alone makes it more: what a full batch adds to a step is most of a first token's time."""
    flooded = quiet(rate, 10 * CAPACITY, ttft_s=0.15)
    assert flooded.ttft_p99 <= 1.5 * quiet(rate, 0.0, ttft_s=0.15).ttft_p99
    assert flooded.refusals <= 0.01 * rate * 2 * SECONDS


def test_priorities_share_an_overloaded_pool_by_weight() -> None:
    loads = [Load("high", 30, weight=4), Load("normal", 30, weight=2), Load("batch", 30, weight=1)]
    calls = run(_pool(**KNOWN), loads, seconds=2 * SECONDS)
    high, normal, batch = (figures(calls, WARM_S, 2 * SECONDS, SLO_S, load.tenant).goodput for load in loads)
    assert high / batch == pytest.approx(4, rel=0.15)
    assert normal / batch == pytest.approx(2, rel=0.15)
