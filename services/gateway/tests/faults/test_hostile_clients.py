"""Clients that take time or memory: bounded, told why, and gone."""

import asyncio
import resource
from contextlib import suppress
from typing import Any

import pytest
from fake_upstream import delta, start_stream
from faults.rest import until
from faults.wire import CHAT as PATH

LANE = f"POST {PATH} HTTP/1.1\r\nhost: x\r\n".encode()
CONTROL = b"PUT /admin/v1/tenants/acme HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway looks after its connections every second; the tests do not want to wait so long."""
    monkeypatch.setattr("capstan.gateway.connection._SWEEP_S", 0.05)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/cha",
        LANE + b"x-a: ",
        LANE + b"content-length: 1000\r\n\r\n{",
        LANE + b"transfer-encoding: chunked\r\n\r\n1\r\n{",
    ],
    ids=["target", "header", "body", "chunk"],
)
async def test_a_slow_loris_is_told_and_closed(gateway: Any, connect: Any, data: bytes) -> None:
    setup = await gateway(receive_timeout_s=0.2)
    client = await connect(setup.url)
    await client.send(data)
    answer = await client.answer()
    assert (answer.status, answer.code) == (408, "request_timeout")
    await _is_gone(setup, client)


async def test_a_trickle_does_not_buy_time(gateway: Any, connect: Any) -> None:
    setup = await gateway(receive_timeout_s=0.5)
    client = await connect(setup.url)
    await client.send(LANE + b"content-length: 1000\r\n\r\n")

    async def trickle() -> None:
        with suppress(ConnectionError):
            while True:
                await client.send(b" ")
                await asyncio.sleep(0.02)

    task = asyncio.create_task(trickle())
    assert (await client.answer()).status == 408
    task.cancel()
    await _is_gone(setup, client)


async def test_a_slow_loris_on_the_control_plane_is_closed(gateway: Any, connect: Any) -> None:
    setup = await gateway(receive_timeout_s=0.2, admin_key="k" * 32)
    client = await connect(setup.url)
    await client.send(CONTROL + b"authorization: Bearer " + b"k" * 32 + b"\r\ncontent-length: 1000\r\n\r\n{")
    await _is_gone(setup, client)


async def test_a_connection_that_says_nothing_is_closed(gateway: Any, connect: Any) -> None:
    setup = await gateway(keep_alive_s=0.2)
    client = await connect(setup.url)
    await _is_gone(setup, client)


async def _is_gone(setup: Any, client: Any) -> None:
    async with asyncio.timeout(10):
        while await client.read():
            pass
    client.leave()
    mine = setup.gateway.edge.connections
    await until(lambda: all(c._exchange is None and not c._receiving for c in mine))


_ENDLESS = {
    "header": LANE + b"x-a: ",
    "headers": LANE,
    "target": b"POST /",
    "control-header": b"GET /healthz HTTP/1.1\r\nx-a: ",
    "trailer": LANE + b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n0\r\nx-a: ",
    "trailers": LANE + b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n0\r\n",
    "control-trailers": CONTROL + b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n0\r\n",
}


@pytest.mark.parametrize("where", _ENDLESS)
async def test_64_mib_of_header_are_refused_and_not_kept(gateway: Any, connect: Any, where: str) -> None:
    setup = await gateway()
    client = await connect(setup.url)
    piece = b"x-b: " + b"a" * 1017 + b"\r\n" if where.endswith("s") else b"a" * 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = asyncio.create_task(_send(client, _ENDLESS[where], piece * 1024))
    answer = await client.answer()
    assert (answer.status, answer.code) == (431, "header_too_large")
    assert answer.headers["connection"] == "close"
    await sent
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 16 * 1024
    await _is_gone(setup, client)
    assert not setup.upstream.requests


async def _send(client: Any, start: bytes, mebibyte: bytes) -> None:
    with suppress(ConnectionError):
        await client.send(start)
        for _ in range(64):
            await client.send(mebibyte)


async def test_a_client_that_does_not_read_is_dropped(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    setup = await gateway()
    setup.gateway.edge.stall_timeout_s = 0.2

    async def flood(receive: Any, send: Any) -> None:
        await start_stream(send)
        while True:
            await send({"type": "http.response.body", "body": delta("x" * 65_536), "more_body": True})
            if setup.upstream.disconnected.is_set():
                return
            await asyncio.sleep(0)

    setup.upstream.behave = flood
    client = await connect(setup.url)
    client._reader._limit = 1024
    await client.post({"model": "m", "messages": [], "stream": True}, auth)
    await setup.upstream.reached.wait()
    gate = setup.gateway.router.pools["p"].gate
    await until(lambda: gate.running == 0)
    setup.upstream.disconnected.set()
