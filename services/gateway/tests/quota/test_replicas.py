"""Several replicas on one Redis: shared limits, leases, and what a lost replica leaves behind."""

import asyncio
from typing import Any

import pytest

from capstan.gateway.outcome import Refusal


async def _crash(quota: Any) -> None:
    """Its process is gone: nothing is settled or renewed any more."""
    quota._renewer.cancel()
    await quota._pipe.close()


@pytest.fixture
async def pair(redis: Any, clock: Any, connect: Any) -> tuple[Any, Any]:
    """Two replicas."""
    options = {"now": clock, "clock": clock, "wall": clock.wall}
    return await connect(redis.url, **options), await connect(redis.url, **options)


async def test_limits_are_shared(pair: Any, tenant: str, limits: Any) -> None:
    one, two = pair
    some = limits(requests_per_minute=2)
    await one.reserve(tenant, some, 1, 0, counted=True)
    assert (await two.reserve(tenant, some, 1, 0, counted=True)).remaining_requests == 0
    with pytest.raises(Refusal):
        await one.reserve(tenant, some, 1, 0, counted=True)


async def test_what_a_crashed_replica_held_comes_back_after_the_lease(
    pair: Any, tenant: str, limits: Any, clock: Any, redis: Any
) -> None:
    one, two = pair
    some = limits(max_concurrent=1, monthly_budget_usd=1, tokens_per_minute=600)
    await one.reserve(tenant, some, 300, 900_000, counted=True)
    await _crash(one)
    clock.now += 59
    with pytest.raises(Refusal):
        await two.reserve(tenant, some, 1, 900_000, counted=True)
    clock.now += 2
    await two.reserve(tenant, some, 1, 900_000, counted=True)
    assert await redis.call("ZCARD", f"capstan:quota:{{{tenant}}}:leases") == 1


async def test_a_refused_request_ends_leases_too(pair: Any, tenant: str, limits: Any, clock: Any, redis: Any) -> None:
    one, two = pair
    await one.reserve(tenant, limits(), 1, 900_000, counted=True)
    await _crash(one)
    clock.now += 61
    with pytest.raises(Refusal):
        await two.reserve(tenant, limits(monthly_budget_usd=0), 1, 1, counted=True)
    state = await redis.quota(tenant)
    assert (state["running"], state["held"]) == (0, 0)


async def test_a_live_replica_keeps_its_places(
    redis: Any, connect: Any, clock: Any, tenant: str, limits: Any, until: Any
) -> None:
    options = {"now": clock, "clock": clock, "wall": clock.wall, "lease_s": 0.3}
    one, two = await connect(redis.url, **options), await connect(redis.url, **options)
    some = limits(max_concurrent=1)
    running = await one.reserve(tenant, some, 1, 0, counted=True)
    clock.now += 0.2

    async def renewed() -> bool:
        return float(await redis.call("ZSCORE", f"capstan:quota:{{{tenant}}}:leases", running.id)) > clock.now + 0.25

    await until(renewed)
    clock.now += 0.2
    with pytest.raises(Refusal):
        await two.reserve(tenant, some, 1, 0, counted=True)


async def test_a_replica_that_was_away_takes_its_places_back(
    pair: Any, redis: Any, tenant: str, limits: Any, clock: Any
) -> None:
    one, two = pair
    some = limits(max_concurrent=2)
    away = await one.reserve(tenant, some, 1, 500, counted=True)
    clock.now += 61
    other = await two.reserve(tenant, some, 1, 0, counted=True)
    assert (await redis.quota(tenant))["held"] == 0
    one._renew()
    await one.spent(tenant)
    with pytest.raises(Refusal):
        await two.reserve(tenant, some, 1, 0, counted=True)
    one.settle(away, 1, 300)
    two.settle(other, 1, 0)
    await two.spent(tenant)
    assert await one.spent(tenant) == 300
    state = await redis.quota(tenant)
    assert (state["running"], state["held"]) == (0, 0)


async def test_a_settlement_after_the_lease_still_counts(
    pair: Any, redis: Any, tenant: str, limits: Any, clock: Any
) -> None:
    one, two = pair
    some = limits(tokens_per_minute=600)
    late = await one.reserve(tenant, some, 600, 500, counted=True)
    clock.now += 61
    await two.reserve(tenant, some, 600, 0, counted=True)
    one.settle(late, 300, 400)
    assert await one.spent(tenant) == 400
    assert (await two.reserve(tenant, some, 0, 0, counted=False)).remaining_tokens == 300
    assert (await redis.quota(tenant))["running"] == 1


async def test_a_client_that_goes_while_it_waits_holds_nothing(pair: Any, redis: Any, tenant: str, limits: Any) -> None:
    one, _ = pair
    waiting = [asyncio.create_task(one.reserve(tenant, limits(), 50, 70, counted=True)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await one.spent(tenant)
    state = await redis.quota(tenant)
    assert (state["running"], state["held"], state["spent"]) == (0, 0, 0)
    assert (await one.reserve(tenant, limits(), 0, 0, counted=False)).remaining_tokens == 6000


async def test_all_that_is_written_ends_by_itself(pair: Any, redis: Any, tenant: str, limits: Any, clock: Any) -> None:
    one, two = pair
    await one.reserve(tenant, limits(), 1, 1, counted=True)
    clock.now += 61
    await two.reserve(tenant, limits(), 1, 1, counted=True)
    keys = await redis.call("KEYS", "*")
    assert len([key for key in keys if tenant.encode() in key]) == 3
    for key in keys:
        assert await redis.call("TTL", key.decode()) > 0


async def test_redis_time_is_used(redis: Any, connect: Any, tenant: str, limits: Any) -> None:
    one = await connect(redis.url, now=lambda: 5.0)
    reservation = await one.reserve(tenant, limits(), 3000, 0, counted=True)
    assert reservation.reset_tokens_s == pytest.approx(30)
    one.settle(reservation, 0, 0)
    assert (await one.reserve(tenant, limits(), 0, 0, counted=False)).remaining_tokens == 6000
