"""A client that leaves, in each phase of its request: the place is free and the worker is told within a second."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from faults.rest import is_zero, until

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def _is_free(setup: Any) -> None:
    await until(lambda: is_zero(setup, "capstan_gateway_running{"), seconds=1)
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="client_closed"') == 1


async def test_in_the_queue(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    setup = await gateway(pool={"max_concurrent": 1})
    setup.upstream.behave = setup.upstream.hang
    first, second = await connect(setup.url), await connect(setup.url)
    await first.post(CHAT, auth)
    await setup.upstream.reached.wait()
    await second.post(CHAT, auth)
    await until(lambda: setup.gateway.router.pools["p"].gate.queued == 1)
    second.leave()
    await until(lambda: setup.gateway.router.pools["p"].gate.queued == 0, seconds=1)
    assert len(setup.upstream.requests) == 1
    first.leave()
    await asyncio.wait_for(setup.upstream.disconnected.wait(), 1)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address that never accepts a connection: its queue of connections is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        with suppress(BlockingIOError):
            filler.connect(listener.getsockname())
        fillers.append(filler)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    for filler in fillers:
        filler.close()
    listener.close()


async def test_while_the_gateway_connects(gateway: Any, connect: Any, auth: dict[str, str], black_hole: str) -> None:
    setup = await gateway(urls=[black_hole], pool={"kind": "openai"})
    client = await connect(setup.url)
    await client.post(CHAT, auth)
    await until(lambda: setup.gateway.router.pools["p"].gate.running == 1)
    client.leave()
    await _is_free(setup)


@pytest.mark.parametrize("stream", [True, False], ids=["before-the-first-token", "non-streaming"])
async def test_before_the_answer(gateway: Any, connect: Any, auth: dict[str, str], stream: bool) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.hang
    client = await connect(setup.url)
    await client.post({**CHAT, "stream": stream}, auth)
    await setup.upstream.reached.wait()
    client.leave()
    await asyncio.wait_for(setup.upstream.disconnected.wait(), 1)
    await _is_free(setup)


async def test_mid_stream(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.stream_then_hang
    client = await connect(setup.url)
    await client.post({**CHAT, "stream": True}, auth)
    await client.read_until(b'"content":"a"')
    client.leave()
    await asyncio.wait_for(setup.upstream.disconnected.wait(), 1)
    await _is_free(setup)


async def test_half_way_through_its_body(gateway: Any, connect: Any) -> None:
    setup = await gateway()
    client = await connect(setup.url)
    await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    await until(lambda: any(c._receiving for c in setup.gateway.edge.connections))
    client.leave()
    await until(lambda: not any(c._receiving for c in setup.gateway.edge.connections))
    assert not setup.upstream.requests
    assert (await setup.chat()).status_code == 200
