"""Probes, metrics and adapters against a worker process that speaks vLLM's HTTP API."""

import asyncio
from functools import partial

import orjson
import pytest
from simulated_worker import Worker

from capstan.gateway.config import ModelsFile
from capstan.gateway.routing import Router
from capstan.gateway.upstream import Upstream
from capstan.gateway.upstream_connection import UpstreamError, Watchdog

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


@pytest.fixture
def worker():
    running = Worker()
    yield running
    running.kill()


def new_router(worker, adapter):
    """As a gateway that has just started."""
    pools = {"p": {"urls": [f"http://127.0.0.1:{worker.port}"], "slow_start_s": 0}}
    models = {"smollm2-135m": {"pool": "p"}, "a": {"pool": "p", "adapter": str(adapter)}}
    config = ModelsFile.model_validate({"pools": pools, "models": models})
    return Router(config, connect=partial(Upstream, watchdog=Watchdog()))


async def until_up(router):
    async with asyncio.timeout(30):
        while True:
            await router.probe()
            (member,) = router.pools["p"].members
            if member.health.word == "up":
                return member
            await asyncio.sleep(0.05)


async def chat(member, model):
    body = orjson.dumps({"model": model, **CHAT})
    return await member.upstream.fetch(
        b"POST", b"/v1/chat/completions", b"content-type: application/json\r\n", body, 10
    )


async def test_a_worker_is_probed_gets_adapters_and_comes_back_from_a_crash(worker, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    router = new_router(worker, adapter)
    member = await until_up(router)
    assert member.scraped is not None
    assert (member.waiting, member.kv_usage) == (0.0, 0.0)

    assert (await chat(member, "a"))[0] == 404
    await asyncio.gather(*(router.adapters.ensure(member, "a", str(adapter)) for _ in range(3)))
    assert (await chat(member, "a"))[0] == 200
    with pytest.raises(UpstreamError, match="could not load the adapter 'b'"):
        await router.adapters.ensure(member, "b", str(tmp_path / "nowhere"))

    second = new_router(worker, adapter)  # another replica, which has not loaded it
    (seen,) = second.pools["p"].members
    await second.adapters.ensure(seen, "a", str(adapter))
    seen.adapters.clear()
    await second.probe()
    assert seen.adapters == {"a"}
    second.close()

    worker.kill()
    await router.probe()
    assert (member.health.word, member.adapters) == ("down", set())
    worker.start()
    assert await until_up(router) is member
    await router.adapters.ensure(member, "a", str(adapter))
    assert (await chat(member, "a"))[0] == 200
    router.close()
