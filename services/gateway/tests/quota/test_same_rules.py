"""Memory and Redis decide alike, to the last digit, whatever happens; and the bound that both keep."""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Refusal
from capstan.gateway.quota import MemoryQuota, Quota, Reservation
from capstan.gateway.quota_redis import RedisQuota

_ids = count()

_reserve = st.tuples(
    st.just("reserve"), st.integers(0, 400), st.sampled_from([0, 1, 250_000, 999_999]), st.booleans(), st.booleans()
)
_settle = st.tuples(st.just("settle"), st.integers(0, 50), st.integers(0, 500), st.integers(0, 600_000))
_advance = st.tuples(st.just("advance"), st.floats(0, 90, allow_nan=False))
_operations = st.lists(st.one_of(_reserve, _settle, _advance), max_size=40)
_limits = st.builds(
    Tenant,
    requests_per_minute=st.integers(1, 20),
    tokens_per_minute=st.integers(1, 1000),
    max_concurrent=st.integers(1, 4),
    monthly_budget_usd=st.sampled_from([None, 0.0, 1.0, 2.5]),
)


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_795_000_000 + 3600 * self.now  # months pass within an example


async def _attempt(
    quota: Quota, tenant: str, limits: Tenant, tokens: int, cost: int, *, counted: bool
) -> tuple[Any, Reservation | None]:
    """What the client of one store sees, and its reservation."""
    try:
        made = await quota.reserve(tenant, limits, tokens, cost, counted=counted)
    except Refusal as refused:
        return (refused.outcome, refused.detail, refused.headers), None
    seen = (made.tokens, made.remaining_requests, made.reset_requests_s, made.remaining_tokens, made.reset_tokens_s)
    return seen, made


@pytest.fixture(scope="module")
def both(redis: Any) -> Any:
    """A runner, one clock, and two stores that read it."""
    clock = _Clock()
    with asyncio.Runner() as runner:

        async def start() -> RedisQuota:
            shared = RedisQuota(
                redis.url, timeout_s=5, replicas=1, registry=CollectorRegistry(),
                now=clock, clock=clock, wall=clock.wall, lease_s=1e9,
            )  # fmt: skip
            await shared.start()
            return shared

        shared = runner.run(start())
        yield runner, clock, shared, redis
        runner.run(shared.close())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_limits, _limits, _operations)
def test_memory_and_redis_agree(both: Any, limits: Tenant, other: Tenant, operations: list[tuple[Any, ...]]) -> None:
    runner, clock, shared, redis = both
    tenant = f"same-{next(_ids)}"

    async def run() -> None:
        local = MemoryQuota(clock, clock.wall)
        held: list[tuple[Reservation, Reservation]] = []
        for operation, *arguments in operations:
            if operation == "advance":
                clock.now += arguments[0]
            elif operation == "reserve":
                tokens, cost, counted, changed = arguments
                now_limits = other if changed else limits
                mine, one = await _attempt(local, tenant, now_limits, tokens, cost, counted=counted)
                theirs, two = await _attempt(shared, tenant, now_limits, tokens, cost, counted=counted)
                assert mine == theirs
                if one and two:
                    held.append((one, two))
            elif held:
                index, tokens, cost = arguments
                one, two = held[index % len(held)]  # at times one that is settled already
                local.settle(one, tokens, cost)
                shared.settle(two, tokens, cost)
            assert await local.spent(tenant) == await shared.spent(tenant)
        for one, two in held:
            local.settle(one, 0, 0)
            shared.settle(two, 0, 0)
        await shared.spent(tenant)  # replies come in order: all is settled now
        state = await redis.quota(tenant)
        assert (state.get("running", 0), state.get("held", 0)) == (0, 0)

    runner.run(run())


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5000),
    st.lists(
        st.tuples(st.floats(0, 40, allow_nan=False), st.integers(0, 6000), st.floats(0, 1), st.integers(0, 5)),
        max_size=60,
    ),
)
def test_tokens_used_never_pass_a_minutes_burst_and_the_rate(limit: int, requests: list[Any]) -> None:
    """At every moment t, as long as no request uses more than it reserved."""
    clock = _Clock()
    quota = MemoryQuota(clock, clock.wall)
    limits = Tenant(tokens_per_minute=limit, requests_per_minute=10**6, max_concurrent=10**6)
    running: list[tuple[Reservation, int]] = []
    started: float | None = None
    used = 0
    for pause, tokens, part, ended in requests:
        clock.now += pause
        with suppress(Refusal):
            reservation = quota.take("t", limits, tokens, 0, counted=True)
            running.append((reservation, int(part * reservation.tokens)))
            started = clock.now if started is None else started
        for reservation, use in running[:ended]:
            quota.settle(reservation, use, 0)
            used += use
        del running[:ended]
        if started is not None:
            assert used <= limit * (1 + (clock.now - started) / 60) + 1e-3


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 120), st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=150))
def test_no_stretch_of_time_holds_more_requests_than_burst_and_rate(limit: int, pauses: list[float]) -> None:
    clock = _Clock()
    quota = MemoryQuota(clock, clock.wall)
    limits = Tenant(requests_per_minute=limit, max_concurrent=10_000)
    granted: list[float] = []
    for pause in pauses:
        clock.now += pause
        with suppress(Refusal):
            quota.take("t", limits, 1, 0, counted=True)
            granted.append(clock.now)
    for start in granted:
        later = [t - start for t in granted if t >= start]
        for number, seconds in enumerate(later, start=1):
            assert number <= limit + seconds * limit / 60 + 1e-3
