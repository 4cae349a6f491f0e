"""HTTP as not every client speaks it."""

import asyncio
from typing import Any

import orjson
import pytest
from faults.rest import until
from faults.wire import CHAT as PATH
from faults.wire import Answer, request

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def _is_closed(client: Any) -> bool:
    async with asyncio.timeout(5):
        return bool(await client.read() == b"")


def _head(auth: dict[str, str], *lines: str) -> bytes:
    fields = [f"POST {PATH} HTTP/1.1", "host: gateway", f"authorization: {auth['authorization']}", *lines]
    return "\r\n".join([*fields, "", ""]).encode()


async def test_of_pipelined_requests_the_first_is_answered(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    """The rest was not read, which the close tells: the client sends it again (RFC 9112, 9.3.2)."""
    setup = await gateway()
    client = await connect(setup.url)
    await client.send(request(CHAT, auth) * 3)
    first = await client.answer()
    assert (first.status, first.headers["connection"]) == (200, "close")
    assert await _is_closed(client)
    assert len(setup.upstream.requests) == 1


async def test_a_request_during_a_stream_does_not_harm_it(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    setup, client, release = await _streaming(gateway, connect, auth)
    await client.send(request(CHAT, auth))
    await _ends_well(setup, client, release)


async def test_garbage_during_a_stream_does_not_harm_it(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    setup, client, release = await _streaming(gateway, connect, auth)
    await client.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    await _ends_well(setup, client, release)


async def _streaming(gateway: Any, connect: Any, auth: dict[str, str]) -> tuple[Any, Any, asyncio.Event]:
    """A stream of which the first event has come; it goes on when the event is set."""
    setup = await gateway()
    release = asyncio.Event()

    async def slowly(receive: Any, send: Any) -> None:
        async def gated(message: Any) -> None:
            await send(message)
            if b'"content":"a"' in message.get("body", b""):
                await release.wait()

        await setup.upstream.stream(receive, gated)

    setup.upstream.behave = slowly
    client = await connect(setup.url)
    await client.post({**CHAT, "stream": True}, auth)
    await client.read_until(b'"content":"a"')
    return setup, client, release


async def _ends_well(setup: Any, client: Any, release: asyncio.Event) -> None:
    await until(lambda: any(c._deaf for c in setup.gateway.edge.connections))
    release.set()
    rest = await client.read_until(b"[DONE]")
    assert b"HTTP/1.1" not in rest
    await client.read_until(b"\r\n0\r\n\r\n")
    assert await _is_closed(client)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_http_1_0_client(gateway: Any, connect: Any, auth: dict[str, str], stream: bool) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.stream if stream else setup.upstream.answer
    client = await connect(setup.url)
    await client.send(request({**CHAT, "stream": stream}, auth, version="1.0"))
    answer = await client.answer()
    assert "transfer-encoding" not in answer.headers
    assert await _is_closed(client)
    assert answer.body.endswith(b"data: [DONE]\n\n") if stream else orjson.loads(answer.body)["usage"]


@pytest.mark.parametrize("word", ["100-continue", "100-Continue"])
async def test_a_client_that_waits_to_be_told_to_go_on(
    gateway: Any, connect: Any, auth: dict[str, str], word: str
) -> None:
    setup = await gateway()
    client = await connect(setup.url)
    body = orjson.dumps(CHAT)
    await client.send(_head(auth, f"content-length: {len(body)}", f"expect: {word}"))
    assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(body)
    assert (await client.answer()).status == 200


async def test_a_chunked_body_in_small_pieces(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    setup = await gateway()
    client = await connect(setup.url)
    await client.send(_head(auth, "transfer-encoding: chunked"))
    body = orjson.dumps(CHAT)
    for i in range(0, len(body), 5):
        piece = body[i : i + 5]
        await client.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
    await client.send(b"0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert setup.upstream.requests[0]["body"] == CHAT
    await client.post(CHAT, auth)  # the connection serves on
    assert (await client.answer()).status == 200


async def test_trailers_are_no_headers(gateway: Any, connect: Any, auth: dict[str, str]) -> None:
    """RFC 9110, 6.5.1: what came after the body may not change what was decided on the head."""
    setup = await gateway()
    client = await connect(setup.url)
    body = orjson.dumps(CHAT)
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    await client.send(_head(auth, "transfer-encoding: chunked") + chunks + b"authorization: Bearer no.key\r\n\r\n")
    assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnot a length\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    ],
    ids=["tls", "two-lengths", "bad-chunk", "negative-length"],
)
async def test_what_is_not_http_gets_400(gateway: Any, connect: Any, data: bytes) -> None:
    setup = await gateway()
    client = await connect(setup.url)
    await client.send(data)
    answer: Answer = await client.answer()
    assert (answer.status, answer.headers["connection"], answer.code) == (400, "close", "invalid_http")
    assert await _is_closed(client)
    assert not setup.upstream.requests


async def test_an_offer_to_upgrade_is_declined_and_the_request_served(
    gateway: Any, connect: Any, auth: dict[str, str]
) -> None:
    setup = await gateway()
    client = await connect(setup.url)
    body = orjson.dumps(CHAT)
    lines = ["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk"]
    await client.send(_head(auth, *lines, f"content-length: {len(body)}") + body)
    assert (await client.answer()).status == 200
