"""The whole gateway while its Redis is killed and comes back: it serves on, and what was used arrives."""

from typing import Any

import pytest
from faults.rest import until
from redis_server import RedisServer

FALLBACK = "capstan_gateway_quota_fallback"


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hanging"])
async def test_redis_is_lost_and_restored(
    redis: RedisServer, gateway: Any, auth: dict[str, str], caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    caplog.set_level("INFO", "capstan.gateway.quota")
    setup = await gateway(
        redis_url=redis.url, redis_timeout_s=0.1, models={"m": {"pool": "p", "price": {"output": 1e6}}}
    )
    for _ in range(3):
        assert (await setup.chat()).status_code == 200
    await until(lambda: _holds(redis, running=0, spent=3 * 7_000_000))
    (redis.pause if hangs else redis.kill)()
    for _ in range(4):
        assert (await setup.chat()).status_code == 200
    assert await setup.metric(f"{FALLBACK} ") == 1
    (redis.resume if hangs else redis.start)()
    await until(lambda: _is_shared(setup))
    for _ in range(2):
        assert (await setup.chat()).status_code == 200
    await until(lambda: _all_counted(setup, auth))
    state = await redis.quota("acme")
    assert (state["running"], state["held"]) == (0, 0)
    changes = [r for r in caplog.records if r.name == "capstan.gateway.quota" and "quotas are" in r.getMessage()]
    assert len(changes) == 2  # lost and found


async def _holds(redis: RedisServer, **wanted: float) -> bool:
    state = await redis.quota("acme")
    return all(state.get(name) == value for name, value in wanted.items())


async def _is_shared(setup: Any) -> bool:
    return bool(await setup.metric(f"{FALLBACK} ") == 0)


async def _all_counted(setup: Any, auth: dict[str, str]) -> bool:
    response = await setup.client.get("/v1/usage", headers=auth)
    return response.status_code == 200 and response.json()["totals"]["requests"] == 9
