"""Quotas as a tenant meets them, on a clock that the test turns."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.quota import MemoryQuota

T = "acme"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _limits(**changes: int) -> Tenant:
    return Tenant.model_validate({"requests_per_minute": 60, "tokens_per_minute": 6000, **changes})


@given(
    st.integers(min_value=1, max_value=120),
    st.lists(st.floats(min_value=0, max_value=30, allow_nan=False), min_size=1, max_size=200),
)
def test_no_minute_holds_more_than_burst_and_refill(limit: int, pauses: list[float]) -> None:
    clock = Clock()
    quota = MemoryQuota(clock)
    limits = _limits(requests_per_minute=limit, max_concurrent=10_000)
    granted: list[float] = []
    for pause in pauses:
        clock.now += pause
        with suppress(Refusal):
            quota.reserve(T, limits, 1, count_request=True)
            granted.append(clock.now)
    for start in granted:
        elapsed = [t - start for t in granted if t >= start]
        for count, seconds in enumerate(elapsed, start=1):
            assert count <= limit + seconds * limit / 60 + 1e-6


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = Clock()
    quota = MemoryQuota(clock)
    limits = _limits(requests_per_minute=3)
    for _ in range(3):
        quota.reserve(T, limits, 1, count_request=True)
    with pytest.raises(Refusal) as refused:
        quota.reserve(T, limits, 1, count_request=True)
    assert refused.value.status_code == 429
    clock.now += int((refused.value.headers or {})["retry-after"])
    quota.reserve(T, limits, 1, count_request=True)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 5000)), max_size=40))
def test_settling_leaves_exactly_what_was_not_used(requests: list[tuple[int, int]]) -> None:
    quota = MemoryQuota(Clock())
    limits = _limits(tokens_per_minute=1_000_000, max_concurrent=100, requests_per_minute=100)
    used = 0
    for reserve, spend in requests:
        reservation = quota.reserve(T, limits, reserve, count_request=True)
        quota.settle(reservation, spend, count_request=True)
        quota.settle(reservation, spend, count_request=True)  # a second time changes nothing
        used += spend
    assert quota.remaining_tokens(T, limits) == 1_000_000 - used


def test_debt_is_paid_before_more_tokens_are_granted() -> None:
    clock = Clock()
    quota = MemoryQuota(clock)
    limits = _limits(tokens_per_minute=600)
    reservation = quota.reserve(T, limits, 10, count_request=True)
    quota.settle(reservation, 1200, count_request=True)
    with pytest.raises(Refusal) as refused:
        quota.reserve(T, limits, 60, count_request=True)
    assert refused.value.outcome is Outcome.TOKEN_QUOTA
    clock.now += int((refused.value.headers or {})["retry-after"])
    quota.reserve(T, limits, 60, count_request=True)


def test_an_estimate_above_the_whole_quota_does_not_lock_a_tenant_out() -> None:
    quota = MemoryQuota(Clock())
    assert quota.reserve(T, _limits(tokens_per_minute=100), 5000, count_request=True).tokens == 100


def test_a_refused_request_takes_nothing() -> None:
    quota = MemoryQuota(Clock())
    limits = _limits(tokens_per_minute=100, requests_per_minute=10)
    quota.reserve(T, limits, 90, count_request=True)
    with pytest.raises(Refusal):
        quota.reserve(T, limits, 50, count_request=True)
    assert quota.remaining_requests(T, limits) == 9


def test_running_requests_are_bounded_and_freed() -> None:
    quota = MemoryQuota(Clock())
    limits = _limits(max_concurrent=1)
    first = quota.reserve(T, limits, 1, count_request=True)
    with pytest.raises(Refusal) as refused:
        quota.reserve(T, limits, 1, count_request=True)
    assert refused.value.outcome is Outcome.CONCURRENCY_QUOTA
    quota.reserve(T, limits, 1, count_request=False)  # an inner call never waits for its own outer one
    quota.settle(first, 1, count_request=True)
    quota.reserve(T, limits, 1, count_request=True)
