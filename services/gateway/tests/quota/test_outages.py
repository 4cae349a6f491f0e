"""Redis dies, hangs, forgets, is full, or loses an answer. Nothing waits, nothing opens, nothing counts twice."""

import asyncio
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from capstan.gateway.config import ConfigError
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.quota import Reservation
from capstan.gateway.quota_redis import RedisQuota

LOG = "capstan.gateway.quota"


class Watch:
    """What an operator sees."""

    def __init__(self, until: Any) -> None:
        self.registry = CollectorRegistry()
        self._until = until

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"capstan_gateway_quota_{name}")

    @property
    def is_local(self) -> bool:
        return self.metric("fallback") == 1

    async def local(self) -> None:
        await self._until(lambda: self.is_local)

    async def shared(self) -> None:
        await self._until(lambda: not self.is_local)


@pytest.fixture
def watch(until: Any) -> Watch:
    return Watch(until)


async def _granted(quota: RedisQuota, tenant: str, limits: Any, attempts: int) -> int:
    """How many of so many attempts get in."""
    tries = [quota.reserve(tenant, limits, 0, 0, counted=True) for _ in range(attempts)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    refused = [result.outcome for result in results if isinstance(result, Refusal)]
    assert set(refused) <= {Outcome.REQUEST_QUOTA}
    granted = [result for result in results if isinstance(result, Reservation)]
    assert len(granted) + len(refused) == attempts
    return len(granted)


async def test_without_redis_each_replica_grants_its_part(
    own_redis: Any, connect: Any, watch: Watch, limits: Any, caplog: Any
) -> None:
    some = limits(requests_per_minute=20, tokens_per_minute=4000, max_concurrent=1000)
    quota = await connect(own_redis.url, registry=watch.registry, replicas=4, timeout_s=0.5)
    with caplog.at_level(logging.INFO, LOG):
        own_redis.kill()
        await watch.local()
        assert await _granted(quota, "a", some, 50) == 5
        assert (await quota.reserve("b", some, 4000, 0, counted=True)).tokens == 1000
        own_redis.start()
        await watch.shared()
    assert await _granted(quota, "c", some, 50) == 20
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert watch.metric("fallbacks_total") == 1


async def test_a_tenant_that_used_up_its_quota_gets_none_from_an_outage(
    own_redis: Any, connect: Any, watch: Watch, limits: Any
) -> None:
    quota = await connect(own_redis.url, registry=watch.registry, now=lambda: 50.0)
    some = limits(requests_per_minute=5, monthly_budget_usd=1)
    assert await _granted(quota, "a", some, 9) == 5
    await quota.reserve("b", some, 0, 900_000, counted=True)
    own_redis.kill()
    await watch.local()
    assert await _granted(quota, "a", some, 9) == 0
    with pytest.raises(Refusal, match="budget"):
        await quota.reserve("b", some, 0, 200_000, counted=True)


async def test_a_redis_that_hangs_is_waited_for_once(
    own_redis: Any, connect: Any, watch: Watch, limits: Any, caplog: Any, clock: Any
) -> None:
    quota = await connect(own_redis.url, registry=watch.registry, now=clock, clock=clock, timeout_s=0.2)
    own_redis.pause()
    first = await asyncio.gather(*(quota.reserve("a", limits(), 10, 7, counted=True) for _ in range(8)))
    assert watch.is_local
    assert "no reply within 0.2 s" in caplog.text
    second = await quota.reserve("a", limits(), 10, 7, counted=True)
    own_redis.resume()
    await watch.shared()
    for reservation in (*first, second):
        quota.settle(reservation, 10, 5)
    assert await quota.spent("a") == 45
    state = await own_redis.quota("a")
    assert (state["running"], state["held"]) == (0, 0)
    assert (await quota.reserve("a", limits(), 0, 0, counted=False)).remaining_tokens == 5910


async def test_what_ends_during_an_outage_is_settled_after_it(
    own_redis: Any, connect: Any, watch: Watch, limits: Any, clock: Any
) -> None:
    quota = await connect(own_redis.url, registry=watch.registry, now=clock, clock=clock)
    running = [await quota.reserve("a", limits(max_concurrent=2), 1000, 500, counted=True) for _ in range(2)]
    own_redis.kill()
    await watch.local()
    quota.settle(running[0], 0, 300)
    local = await quota.reserve("a", limits(), 10, 50, counted=True)
    late = await quota.reserve("a", limits(), 10, 50, counted=True)
    quota.settle(local, 10, 40)
    own_redis.start()
    await watch.shared()
    assert await quota.spent("a") == 340
    quota.settle(late, 10, 2)
    quota.settle(late, 10, 2)
    assert await quota.spent("a") == 342
    state = await own_redis.quota("a")
    assert (state["running"], state["held"]) == (1, 500)
    quota.settle(running[1], 0, 0)
    assert (await quota.reserve("a", limits(), 0, 0, counted=False)).remaining_tokens == 5980


async def test_an_outage_is_no_second_quota(
    own_redis: Any, connect: Any, watch: Watch, limits: Any, clock: Any
) -> None:
    quota = await connect(own_redis.url, registry=watch.registry, replicas=2, clock=clock, now=clock, wall=clock.wall)
    some = limits(requests_per_minute=40)
    quota.settle(await quota.reserve("a", some, 3000, 0, counted=True), 3000, 0)
    await quota.reserve("a", some, 0, 0, counted=False)
    own_redis.kill()
    await watch.local()
    local = await quota.reserve("a", some, 1500, 0, counted=True)
    assert (local.tokens, local.remaining_tokens) == (1500, 0)
    quota.settle(local, 1000, 0)
    quota.settle(await quota.reserve("b", some, 1000, 0, counted=True), 1000, 0)
    own_redis.start()
    await watch.shared()
    after = await quota.reserve("a", some, 0, 0, counted=False)
    assert (after.remaining_tokens, after.remaining_requests) == (2000, 38)
    new = await quota.reserve("b", some, 0, 0, counted=False)
    assert (new.remaining_tokens, new.remaining_requests) == (5000, 39)


async def test_a_redis_that_lost_its_data_learns_what_runs(
    own_redis: Any, connect: Any, watch: Watch, limits: Any
) -> None:
    quota = await connect(own_redis.url, registry=watch.registry)
    running = await quota.reserve("a", limits(), 1000, 500, counted=True)
    await own_redis.call("FLUSHALL")
    await own_redis.call("SCRIPT", "FLUSH")
    other = await quota.reserve("a", limits(), 1, 0, counted=True)
    assert watch.is_local
    await watch.shared()
    await quota.spent("a")
    assert (await own_redis.quota("a"))["running"] == 1
    quota.settle(running, 1000, 500)
    quota.settle(other, 1, 0)
    assert await quota.spent("a") == 500
    assert (await own_redis.quota("a"))["running"] == 0


async def test_a_settlement_that_finds_no_script_still_arrives(
    own_redis: Any, connect: Any, watch: Watch, until: Any, limits: Any
) -> None:
    quota = await connect(own_redis.url, registry=watch.registry)
    running = await quota.reserve("a", limits(), 1, 900, counted=True)
    await own_redis.call("SCRIPT", "FLUSH")
    quota.settle(running, 1, 900)
    await until(lambda: _has_spent(own_redis, "a", 900))


async def test_a_shutdown_waits_for_what_was_just_settled(own_redis: Any, connect: Any, limits: Any) -> None:
    quota = await connect(own_redis.url)
    quota.settle(await quota.reserve("a", limits(), 1, 0, counted=True), 1, 900)
    await quota.close()
    assert await _has_spent(own_redis, "a", 900)


async def test_a_lost_answer_counts_once(
    redis: Any, line: Any, watch: Watch, connect: Any, until: Any, limits: Any, tenant: str, clock: Any
) -> None:
    quota = await connect(await line.start(), registry=watch.registry, now=clock, clock=clock)
    first = await quota.reserve(tenant, limits(), 1000, 500, counted=True)
    line.swallow = True
    quota.settle(first, 400, 300)
    asking = asyncio.create_task(quota.reserve(tenant, limits(), 1000, 500, counted=True))
    await line.swallowed.wait()
    await until(lambda: _has_spent(redis, tenant, 300))
    line.cut()
    local = await asking
    await watch.shared()
    line.swallow = True
    line.swallowed.clear()
    quota.settle(local, 0, 7)
    await until(lambda: _has_spent(redis, tenant, 307))
    line.cut()
    await until(lambda: watch.metric("fallbacks_total") == 2)
    await watch.shared()
    assert await quota.spent(tenant) == 307
    state = await redis.quota(tenant)
    assert (state["running"], state["held"]) == (0, 0)
    left = await quota.reserve(tenant, limits(), 0, 0, counted=False)
    assert left.remaining_tokens == 5600


async def test_nothing_of_an_old_connection_runs_after_the_new_one(
    redis: Any, line: Any, watch: Watch, connect: Any, until: Any, limits: Any, tenant: str, clock: Any
) -> None:
    quota = await connect(await line.start(), registry=watch.registry, now=clock, clock=clock)
    line.hold = True
    asking = asyncio.create_task(quota.reserve(tenant, limits(), 1000, 500, counted=True))
    await until(lambda: line.held)
    line.cut()
    quota.settle(await asking, 0, 0)
    await watch.shared()
    await quota.spent(tenant)
    await line.release()
    state = await redis.quota(tenant)
    assert (state["running"], state["held"]) == (0, 0)
    assert (await quota.reserve(tenant, limits(), 0, 0, counted=False)).remaining_tokens == 6000


async def _has_spent(redis: Any, tenant: str, amount: int) -> bool:
    return (await redis.quota(tenant))["spent"] == amount


async def test_a_full_redis_is_no_use(own_redis: Any, connect: Any, watch: Watch, limits: Any, caplog: Any) -> None:
    quota = await connect(own_redis.url, registry=watch.registry, replicas=2)
    await own_redis.call("CONFIG", "SET", "maxmemory", "1")
    assert (await quota.reserve("a", limits(), 6000, 0, counted=True)).tokens == 3000
    assert watch.is_local
    assert "maxmemory" in caplog.text
    await own_redis.call("CONFIG", "SET", "maxmemory", "0")
    await watch.shared()
    assert (await quota.reserve("b", limits(), 6000, 0, counted=True)).tokens == 6000


async def test_a_start_without_redis_is_local_until_it_comes(
    own_redis: Any, connect: Any, watch: Watch, limits: Any
) -> None:
    own_redis.kill()
    quota = await connect(own_redis.url, registry=watch.registry, replicas=2)
    assert watch.is_local
    early = await quota.reserve("a", limits(), 6000, 0, counted=True)
    assert early.tokens == 3000
    own_redis.start()
    await watch.shared()
    quota.settle(early, 0, 80)
    assert await quota.spent("a") == 80


async def test_password_and_database_come_from_the_url(
    start_redis: Any, connect: Any, watch: Watch, limits: Any, caplog: Any
) -> None:
    server = start_redis("--requirepass", "p@ss/word")
    quota = await connect(f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}/3", registry=watch.registry)
    quota.settle(await quota.reserve("a", limits(), 1, 0, counted=True), 1, 5)
    assert await quota.spent("a") == 5
    wrong = await connect(f"redis://:secret@127.0.0.1:{server.port}/3")
    assert (await wrong.reserve("a", limits(), 1, 0, counted=True)).tokens == 1
    assert "WRONGPASS" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["http://:secret@host", "redis://", "redis://:secret@host:x/0", "redis://:secret@h/x"])
def test_a_wrong_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="Redis URL") as error:
        RedisQuota(url, timeout_s=1, replicas=1, registry=CollectorRegistry())
    assert "secret" not in str(error.value)
