import asyncio

import pytest

from capstan.gateway.adapters import Adapters
from capstan.gateway.upstream_connection import UpstreamError

LOAD = b"/v1/load_lora_adapter"


@pytest.fixture
def member(make_pool):
    return make_pool(1).members[0]


async def test_an_adapter_is_loaded_once_and_again_after_it_was_lost(member):
    adapters = Adapters()
    member.upstream.answers[LOAD] = (200, b"Success")
    await adapters.ensure(member, "a", "/adapters/a")
    await adapters.ensure(member, "a", "/adapters/a")
    assert member.upstream.fetched == [LOAD]
    adapters.lost(member, "a")
    await adapters.ensure(member, "a", "/adapters/a")
    assert member.upstream.fetched == [LOAD, LOAD]


async def test_all_who_need_it_wait_for_one_load_and_one_who_leaves_does_not_end_it(member):
    adapters, released = Adapters(), asyncio.Event()

    async def slow(*_):
        member.upstream.fetched.append(LOAD)
        await released.wait()
        return 200, b"Success"

    member.upstream.fetch = slow
    waiting = [asyncio.create_task(adapters.ensure(member, "a", "/a")) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    released.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None] * 4
    assert member.upstream.fetched == [LOAD]


async def test_a_worker_that_has_it_already_is_no_error(member):
    member.upstream.answers[LOAD] = (400, b"The lora adapter 'a' has already been loaded. If you want ...")
    await Adapters().ensure(member, "a", "/a")
    assert member.adapters == {"a"}


async def test_a_load_that_fails_says_why_and_is_tried_anew(member):
    adapters = Adapters()
    member.upstream.answers[LOAD] = (404, b"No adapter found for /a")
    with pytest.raises(UpstreamError, match=r"could not load the adapter 'a' from /a .*No adapter found"):
        await adapters.ensure(member, "a", "/a")
    member.upstream.die()
    member.upstream.answers[LOAD] = UpstreamError("gone")
    with pytest.raises(UpstreamError):
        await adapters.ensure(member, "a", "/a")
    member.upstream.answers[LOAD] = (200, b"")
    await adapters.ensure(member, "a", "/a")
    assert member.adapters == {"a"}
