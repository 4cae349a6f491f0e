"""Tenants that several gateways share: revocation everywhere at once, and Redis away, hanging, or emptied."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from control.plane import Clock, Plane, until
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis_server import RedisServer

from capstan.common.errors import ApiError
from capstan.common.identity import Signer
from capstan.gateway.auth import Authenticator, new_key
from capstan.gateway.config import ConfigError, Tenant, read_keys
from capstan.gateway.ledger import FileLedger
from capstan.gateway.outcome import Refusal
from capstan.gateway.tenants import add_key
from capstan.gateway.tenants_redis import CHANNEL, TENANTS, VERSION, RedisTenants

KEY, STORED = new_key("acme-1")
SEED = {"acme": Tenant(keys=[STORED])}
HEADERS = [(b"authorization", f"Bearer {KEY}".encode())]
FOREVER = 3600.0

Start = Callable[..., Awaitable[RedisTenants]]


@pytest.fixture
async def start(redis: RedisServer, clock: Clock) -> AsyncIterator[Start]:
    """Start a gateway's store: `await start(poll_s=…)`."""
    stores: list[RedisTenants] = []

    async def begin(
        *, seed: Mapping[str, Tenant] = SEED, poll_s: float = 0.005, timeout_s: float = 0.5, **options: Any
    ) -> RedisTenants:
        options = {"registry": CollectorRegistry(), "now": clock, **options}
        store = RedisTenants(redis.url, lambda: seed, timeout_s=timeout_s, poll_s=poll_s, **options)
        await store.start()
        stores.append(store)
        return store

    yield begin
    for store in stores:
        await store.close()


def authenticator(store: RedisTenants, clock: Clock) -> Authenticator:
    return Authenticator(Signer("s" * 32), store, clock)


def refused(asked: Authenticator) -> str:
    """The code of the refusal, or nothing."""
    try:
        asked.authenticate(HEADERS)
    except Refusal as refusal:
        return refusal.code
    return ""


async def test_a_revoked_key_is_refused_by_the_other_gateway_at_once(
    start: Start, redis: RedisServer, clock: Clock
) -> None:
    """By the message: the other one would look by itself in an hour."""
    first, second = await start(), await start(poll_s=FOREVER)
    client = Redis.from_url(redis.url)
    while (await client.pubsub_numsub(CHANNEL))[0][1] != 2:
        await asyncio.sleep(0.005)
    await client.aclose()
    asked = authenticator(second, clock)
    assert not refused(asked)
    await first.update("acme", lambda tenant: tenant and tenant.model_copy(update={"keys": []}))
    await until(lambda: refused(asked) == "invalid_api_key")


async def test_a_lost_message_is_made_up_for(start: Start, redis: RedisServer) -> None:
    store = await start()
    client = Redis.from_url(redis.url)
    await client.hset(TENANTS, "new", Tenant().model_dump_json())
    await client.incr(VERSION)
    await client.aclose()
    await until(lambda: "new" in store.tenants)


async def test_changes_made_at_the_same_time_are_all_kept(start: Start) -> None:
    stores = [await start() for _ in range(3)]

    async def add(store: RedisTenants, n: int) -> None:
        stored = new_key(f"key-{n}")[1]
        await store.update("acme", lambda t: t and t.model_copy(update={"keys": [*t.keys, stored]}))

    await asyncio.gather(*(add(stores[n % 3], n) for n in range(9)))
    for store in stores:
        await until(lambda store=store: len(store.tenants["acme"].keys) == 10)


async def test_the_keys_file_adds_what_redis_never_had(start: Start) -> None:
    """A tenant that was deleted, or whose keys were revoked, is not brought back by a restart or reload."""
    first = await start(seed={"acme": Tenant(keys=[STORED]), "gone": Tenant()})
    await first.update("gone", lambda _: None)
    await first.update("acme", lambda t: t and t.model_copy(update={"keys": []}))
    again = await start(seed={"acme": Tenant(keys=[STORED]), "gone": Tenant(), "new": Tenant()})
    await again.reload()
    assert set(again.tenants) == {"acme", "new"}
    assert again.tenants["acme"].keys == []
    await again.update("gone", lambda before: None if before else Tenant())
    assert "gone" in again.tenants


async def test_a_key_id_of_the_file_that_another_tenant_has_is_named(start: Start) -> None:
    await start()
    with pytest.raises(ConfigError, match=r"acme-1.*used twice"):
        await start(seed={"other": Tenant(keys=[STORED])})


async def test_a_broken_keys_file_is_refused_at_reload(redis: RedisServer, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.yaml"
    add_key(path, "acme")
    registry = CollectorRegistry()
    store = RedisTenants(redis.url, lambda: read_keys(path).tenants, timeout_s=5, registry=registry, now=clock)
    await store.start()
    path.write_text("tenants: [")
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        await store.reload()
    assert set(store.tenants) == {"acme"}
    await store.close()


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_without_redis_the_last_tenants_stay_for_a_quarter_of_an_hour(
    start: Start, redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level("INFO", "capstan")
    registry = CollectorRegistry()
    store = await start(registry=registry, timeout_s=0.05)
    asked = authenticator(store, clock)
    getattr(redis, how)()
    await until(lambda: len(caplog.records) == 1)

    with pytest.raises(ApiError) as refusal:
        await store.update("acme", lambda _: None)
    assert (refusal.value.status_code, refusal.value.code) == (503, "redis_unavailable")
    clock.now += 899
    assert not refused(asked)
    clock.now += 2
    assert refused(asked) == "auth_unavailable"
    assert registry.get_sample_value("capstan_gateway_tenants_age_seconds") == 901

    redis.resume()
    if how == "kill":
        redis.start()
    await until(lambda: len(caplog.records) >= 2 and not refused(asked))
    levels = [(record.levelname, record.message) for record in caplog.records]
    assert levels[-1] == ("INFO", "Redis answers again; tenants are current")


async def test_redis_that_comes_back_empty_gets_its_tenants_again(
    start: Start, redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stores = [await start(), await start()]
    await stores[0].update("acme", lambda t: t and t.model_copy(update={"keys": []}))
    await stores[0].update("made", lambda _: Tenant(tokens_per_minute=7))
    await stores[0].update("made", lambda t: t and t.model_copy(update={"tokens_per_minute": 8}))
    await until(lambda: "made" in stores[1].tenants and stores[1].tenants["made"].tokens_per_minute == 8)
    redis.kill()
    redis.start()
    await until(lambda: any("has lost" in record.message for record in caplog.records))
    third = await start()
    assert third.tenants["made"].tokens_per_minute == 8
    assert third.tenants["acme"].keys == []
    await stores[1].update("after", lambda _: Tenant())
    for store in (stores[0], third):
        await until(lambda store=store: "after" in store.tenants)


async def test_a_tenant_that_cannot_be_read_is_refused_alone_and_can_be_mended(
    start: Start, redis: RedisServer, clock: Clock
) -> None:
    store = await start(seed={**SEED, "other": Tenant()})
    client = Redis.from_url(redis.url)
    await client.hset(TENANTS, "acme", '{"of_a_later_version": 1}')
    await client.incr(VERSION)
    await client.aclose()
    asked = authenticator(store, clock)
    await until(lambda: refused(asked) == "invalid_api_key")
    assert set(store.tenants) == {"other"}
    await store.update("acme", lambda _: SEED["acme"])
    assert not refused(asked)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "http://127.0.0.1:1"])
async def test_no_redis_at_the_start_names_the_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="CAPSTAN_GATEWAY_REDIS_URL"):
        await RedisTenants(url, lambda: SEED, timeout_s=0.5, registry=CollectorRegistry()).start()


async def test_a_wrong_password_is_said_and_not_repeated(redis: RedisServer) -> None:
    url = redis.url.replace("127.0.0.1", ":hunter2@127.0.0.1")
    with pytest.raises(ConfigError, match="CAPSTAN_GATEWAY_REDIS_URL") as error:
        await RedisTenants(url, lambda: SEED, timeout_s=0.5, registry=CollectorRegistry()).start()
    assert "hunter2" not in str(error.value)


async def test_the_admin_api_works_on_redis(start: Start, redis: RedisServer, clock: Clock) -> None:
    planes = [Plane(await start(), FileLedger(None), clock) for _ in range(2)]
    key = await planes[0].new_key()
    await until(lambda: len(planes[1].tenants.tenants["acme"].keys) == 2)
    assert (await planes[1].as_tenant(key, "/v1/models")).status_code == 200
    assert (await planes[1].ask("DELETE", f"/tenants/acme/keys/{key.split('.')[0]}")).status_code == 204
    assert (await planes[1].as_tenant(key, "/v1/models")).status_code == 401
    redis.kill()
    for method, path in (("PUT", "/tenants/acme"), ("POST", "/tenants/acme/keys"), ("DELETE", "/tenants/acme")):
        response = await planes[0].ask(method, path, {} if method == "PUT" else None)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert (await planes[0].ask("GET", "/tenants")).status_code == 200
    for plane in planes:
        await plane.client.aclose()
