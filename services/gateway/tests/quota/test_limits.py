"""Quotas as a tenant meets them: the same in memory and in Redis."""

from collections.abc import Callable
from typing import Any

import pytest

from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.quota import Quota

Limits = Callable[..., Tenant]
DECEMBER = 1_796_083_200
"""The month that follows the clock's."""


async def _refused(quota: Quota, tenant: str, limits: Tenant, tokens: int = 1, cost: int = 0) -> tuple[Outcome, int]:
    """How and for how many seconds a request is refused."""
    with pytest.raises(Refusal) as refused:
        await quota.reserve(tenant, limits, tokens, cost, counted=True)
    assert refused.value.status_code == 429
    return refused.value.outcome, int((refused.value.headers or {})["retry-after"])


async def test_a_minute_of_requests_at_once_then_one_at_a_time(
    quota: Quota, clock: Any, tenant: str, limits: Limits
) -> None:
    some = limits(requests_per_minute=3)
    for _ in range(3):
        await quota.reserve(tenant, some, 1, 0, counted=True)
    assert await _refused(quota, tenant, some) == (Outcome.REQUEST_QUOTA, 20)
    clock.now += 20
    await quota.reserve(tenant, some, 1, 0, counted=True)
    assert await _refused(quota, tenant, some) == (Outcome.REQUEST_QUOTA, 20)


async def test_tokens_not_used_come_back_and_only_once(quota: Quota, clock: Any, tenant: str, limits: Limits) -> None:
    some = limits(tokens_per_minute=600)
    reservation = await quota.reserve(tenant, some, 600, 0, counted=True)
    assert await _refused(quota, tenant, some, 300) == (Outcome.TOKEN_QUOTA, 30)
    quota.settle(reservation, 100, 0)
    quota.settle(reservation, 0, 0)
    assert await _refused(quota, tenant, some, 510) == (Outcome.TOKEN_QUOTA, 1)
    await quota.reserve(tenant, some, 500, 0, counted=True)


async def test_debt_is_paid_before_more_tokens_are_granted(
    quota: Quota, clock: Any, tenant: str, limits: Limits
) -> None:
    some = limits(tokens_per_minute=600)
    quota.settle(await quota.reserve(tenant, some, 10, 0, counted=True), 1200, 0)
    assert await _refused(quota, tenant, some, 60) == (Outcome.TOKEN_QUOTA, 66)
    clock.now += 66
    await quota.reserve(tenant, some, 60, 0, counted=True)


async def test_an_estimate_above_the_whole_quota_locks_nobody_out(quota: Quota, tenant: str, limits: Limits) -> None:
    reservation = await quota.reserve(tenant, limits(tokens_per_minute=100), 5000, 0, counted=True)
    assert reservation.tokens == 100


async def test_running_requests_are_bounded_and_freed(quota: Quota, tenant: str, limits: Limits) -> None:
    some = limits(max_concurrent=1)
    first = await quota.reserve(tenant, some, 1, 0, counted=True)
    assert await _refused(quota, tenant, some) == (Outcome.CONCURRENCY_QUOTA, 1)
    quota.settle(first, 1, 0)
    await quota.reserve(tenant, some, 1, 0, counted=True)


async def test_inner_calls_take_tokens_and_money_but_no_request_and_no_place(
    quota: Quota, tenant: str, limits: Limits
) -> None:
    some = limits(max_concurrent=1, requests_per_minute=1, tokens_per_minute=100, monthly_budget_usd=1)
    outer = await quota.reserve(tenant, some, 0, 0, counted=True)
    inner = await quota.reserve(tenant, some, 90, 900_000, counted=False)
    for tokens, cost, outcome in ((20, 0, Outcome.TOKEN_QUOTA), (1, 200_000, Outcome.BUDGET)):
        with pytest.raises(Refusal) as refused:
            await quota.reserve(tenant, some, tokens, cost, counted=False)
        assert refused.value.outcome is outcome
    quota.settle(inner, 90, 900_000)
    assert (await _refused(quota, tenant, some))[0] is Outcome.CONCURRENCY_QUOTA
    quota.settle(outer, 0, 0)
    assert (await _refused(quota, tenant, some))[0] is Outcome.REQUEST_QUOTA


@pytest.mark.parametrize(
    ("limit", "tokens", "cost"),
    [({"tokens_per_minute": 100}, 50, 0), ({"monthly_budget_usd": 1}, 1, 500_000)],
)
async def test_a_refused_request_takes_nothing(
    quota: Quota, tenant: str, limits: Limits, limit: dict[str, Any], tokens: int, cost: int
) -> None:
    some = limits(requests_per_minute=10, **limit)
    await quota.reserve(tenant, some, 90, 900_000, counted=True)
    await _refused(quota, tenant, some, tokens, cost)
    last = await quota.reserve(tenant, some, 1, 1, counted=True)
    assert last.remaining_requests == 8
    assert last.remaining_tokens == some.tokens_per_minute - 91


async def test_what_is_left_and_when_it_is_full_again(quota: Quota, clock: Any, tenant: str, limits: Limits) -> None:
    first = await quota.reserve(tenant, limits(), 3000, 0, counted=True)
    assert (first.remaining_requests, first.reset_requests_s) == (59, pytest.approx(1))
    assert (first.remaining_tokens, first.reset_tokens_s) == (3000, pytest.approx(30))
    quota.settle(first, 3000, 0)
    clock.now += 10
    inner = await quota.reserve(tenant, limits(), 0, 0, counted=False)
    assert (inner.remaining_requests, inner.reset_requests_s) == (60, 0)
    assert (inner.remaining_tokens, inner.reset_tokens_s) == (4000, pytest.approx(20))


async def test_a_budget_counts_what_runs_and_what_was_spent(
    quota: Quota, clock: Any, tenant: str, limits: Limits
) -> None:
    some = limits(monthly_budget_usd=1)
    first = await quota.reserve(tenant, some, 1, 800_000, counted=True)
    assert await _refused(quota, tenant, some, cost=300_000) == (Outcome.BUDGET, 1)  # it may turn out cheaper
    quota.settle(first, 1, 700_000)
    assert await quota.spent(tenant) == 700_000
    await quota.reserve(tenant, some, 1, 300_000, counted=True)
    assert await _refused(quota, tenant, some, cost=1) == (Outcome.BUDGET, 1)


async def test_a_budget_used_up_waits_for_the_month_in_utc(
    quota: Quota, clock: Any, tenant: str, limits: Limits
) -> None:
    some = limits(monthly_budget_usd=1)
    quota.settle(await quota.reserve(tenant, some, 1, 0, counted=True), 1, 1_000_000)
    outcome, wait = await _refused(quota, tenant, some, cost=1)
    assert outcome is Outcome.BUDGET
    assert clock.wall() + wait == DECEMBER
    clock.now += wait - 2
    assert await _refused(quota, tenant, some, cost=1) == (Outcome.BUDGET, 2)
    clock.now += 2
    assert await quota.spent(tenant) == 0
    await quota.reserve(tenant, some, 1, 1_000_000, counted=True)


async def test_a_request_that_runs_over_the_month_is_paid_in_the_new_one(
    quota: Quota, clock: Any, tenant: str, limits: Limits
) -> None:
    some = limits(monthly_budget_usd=1)
    clock.now += DECEMBER - 10 - clock.wall()
    running = await quota.reserve(tenant, some, 1, 400_000, counted=True)
    clock.now += 20
    assert (await _refused(quota, tenant, some, cost=700_000))[0] is Outcome.BUDGET  # it is still held
    quota.settle(running, 1, 300_000)
    assert await quota.spent(tenant) == 300_000


async def test_tenants_do_not_share(quota: Quota, tenant: str, limits: Limits) -> None:
    some = limits(requests_per_minute=1)
    await quota.reserve(tenant, some, 1, 0, counted=True)
    await quota.reserve(tenant + "-other", some, 1, 0, counted=True)


async def test_a_changed_limit_gives_back_what_the_old_one_took(quota: Quota, tenant: str, limits: Limits) -> None:
    running = await quota.reserve(tenant, limits(tokens_per_minute=100), 100, 0, counted=True)
    quota.settle(running, 0, 0)
    full = await quota.reserve(tenant, limits(tokens_per_minute=1000), 0, 0, counted=True)
    assert full.remaining_tokens == 1000
