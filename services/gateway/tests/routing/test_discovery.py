import asyncio
import logging
import socket

import pytest

from capstan.gateway.config import ModelsFile
from capstan.gateway.discovery import look_up

POOLS = {"p": {"dns": "http://workers.internal:8000/base"}}


class Resolver:
    def __init__(self, *addresses: str) -> None:
        self.answer = list(addresses)
        self.problem: Exception | None = None
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if self.problem is not None:
            raise self.problem
        return self.answer


async def test_every_address_is_a_member_named_by_it(make_router):
    resolver = Resolver("10.0.0.2", "10.0.0.1", "fd00::1")
    router = make_router(POOLS, resolve=resolver)
    await router.discover()
    members = router.pools["p"].members
    assert resolver.asked == ["workers.internal"]
    assert [m.name for m in members] == ["http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://[fd00::1]:8000"]
    assert [m.upstream.address for m in members] == ["10.0.0.1", "10.0.0.2", "fd00::1"]
    assert members[0].upstream.url == "http://workers.internal:8000/base"  # host header and TLS name stay


async def test_members_follow_the_addresses(make_router, caplog):
    caplog.set_level(logging.INFO, "capstan.gateway")
    resolver = Resolver("10.0.0.1", "10.0.0.2")
    router = make_router(POOLS, resolve=resolver)
    await router.discover()
    kept = router.pools["p"].members[1]
    resolver.answer = ["10.0.0.3", "10.0.0.2"]
    await router.discover()
    await router.discover()
    assert [m.name for m in router.pools["p"].members] == ["http://10.0.0.2:8000", "http://10.0.0.3:8000"]
    assert router.pools["p"].members[0] is kept
    assert kept.health.word == "up"
    assert router.pools["p"].members[1].health.word == "starting"
    assert caplog.text.count("members changed") == 2


@pytest.mark.parametrize("problem", [None, OSError("no such host"), TimeoutError(), UnicodeError("label too long")])
async def test_a_failed_or_empty_look_up_keeps_the_last_members_and_says_so_once(make_router, caplog, problem):
    resolver = Resolver("10.0.0.1")
    router = make_router(POOLS, resolve=resolver)
    await router.discover()
    resolver.answer, resolver.problem = [], problem
    await router.discover()
    await router.discover()
    assert [m.name for m in router.pools["p"].members] == ["http://10.0.0.1:8000"]
    assert caplog.text.count("look-up failed") == 1


async def test_a_reload_to_another_host_serves_from_the_old_members_until_it_is_looked_up(make_router):
    router = make_router(POOLS, resolve=Resolver("10.0.0.1"))
    await router.discover()
    other = {"pools": {"p": {"dns": "http://others.internal:8000"}}, "models": {"m": {"pool": "p"}}}
    router.apply(ModelsFile.model_validate(other))
    assert [m.upstream.url for m in router.pools["p"].members] == ["http://workers.internal:8000/base"]
    await router.discover()
    assert [m.upstream.url for m in router.pools["p"].members] == ["http://others.internal:8000"]


async def test_an_answer_that_a_reload_overtook_is_dropped(make_router):
    release = asyncio.Event()

    async def resolve(host):
        await release.wait()
        return ["10.0.0.1"]

    router = make_router(POOLS, resolve=resolve)
    looking = asyncio.create_task(router.discover())
    await asyncio.sleep(0)
    static = {"pools": {"p": {"urls": ["http://w:1"]}}, "models": {"m": {"pool": "p"}}}
    router.apply(ModelsFile.model_validate(static))
    release.set()
    await looking
    assert [m.name for m in router.pools["p"].members] == ["http://w:1"]


async def test_the_system_s_resolver():
    assert "127.0.0.1" in await look_up("localhost")
    with pytest.raises((socket.gaierror, TimeoutError)):
        await look_up("host.invalid")
