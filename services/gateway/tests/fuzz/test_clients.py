"""The clients' side, fed with whatever a client may send."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import h11
import httptools
import pytest
import uvicorn
from fuzz.bytes_on_a_wire import FakeTransport, cut, places, run, spoiled, turns
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from capstan.gateway.connection import ClientConnection, Edge
from capstan.gateway.exchange import Exchange

MAX_BODY = 200
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
HIDDEN = CHAT + b"content-length: 6\r\n\r\nHIDDEN"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The control plane: reads a body under `/read`, answers at once elsewhere."""
    more = scope["path"] == "/read"
    while more:
        message = await receive()
        more = message.get("more_body", False) and message["type"] == "http.request"
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"none"})


CONFIG = uvicorn.Config(application, log_config=None, ws="none", lifespan="off")
CONFIG.load()


@dataclass
class Client:
    """One connection to a gateway whose endpoint echoes bodies, in a stream where they begin with `s`."""

    bodies: list[bytes] = field(default_factory=list)
    """Of the requests that reached the endpoint whole."""
    headers: list[list[tuple[bytes, bytes]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.edge = Edge(self._endpoint, MAX_BODY, receive_timeout_s=30, keep_alive_s=75)
        self.connection = ClientConnection(self.edge, CONFIG, ServerState(), {})
        self.wire = FakeTransport(self.connection)
        self.connection.connection_made(self.wire)

    async def _endpoint(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)
        if exchange.problem is not None:
            exchange.respond(413, b"", b"large")
            return
        self.bodies.append(exchange.body)
        self.headers.append(exchange.headers)
        if not exchange.body.startswith(b"s"):
            exchange.respond(200, b"", exchange.body)
            return
        exchange.start(200, b"")
        for _ in range(3):
            exchange.send(exchange.body)
            await asyncio.sleep(0)
        exchange.end()

    async def send(self, pieces: list[bytes], *, slowly: bool = False) -> None:
        for piece in pieces:
            if self.wire.is_closing():
                return
            self.connection.data_received(piece)
            if slowly:
                await asyncio.sleep(0)

    def answers(self) -> list[tuple[int, bytes]]:
        """Status and body of each answer; fails on anything that is not HTTP, and on bytes after the last word."""
        found: list[tuple[int, bytes]] = []
        rest = self.wire.written
        while rest:
            parser = h11.Connection(h11.CLIENT)
            parser.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
            parser.send(h11.EndOfMessage())
            parser.receive_data(rest)
            if self.wire.is_closing() or self.wire.ended:
                parser.receive_data(b"")
            status, body = 0, b""
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
                elif event is h11.NEED_DATA and not status:
                    return found  # a word in between, and no answer yet
                else:
                    assert isinstance(event, h11.InformationalResponse), (event, self.wire.written)
            found.append((status, body))
            rest = parser.trailing_data[0]
            if parser.our_state is h11.MUST_CLOSE:
                assert not rest
                assert self.wire.is_closing() or self.wire.ended
        return found

    async def wait_in_vain(self) -> None:
        """The client says and reads no more; it must not be waited for."""
        now = time.monotonic()
        self.connection.look(now + 100)
        await turns()
        self.connection.look(now + 200)
        await turns()
        assert self.wire.is_closing()
        assert not self.edge.connections


class Counter:
    """Whole requests, as the parser counts them that does nothing else."""

    def __init__(self, data: bytes) -> None:
        self.whole = 0
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.whole += 1


bodies = st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda body: b"s" + body))


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes | None]:
    """A request, and the body with which it reaches the endpoint, if it is one for it."""
    body = draw(bodies)
    target = draw(
        st.sampled_from([b"/v1/chat/completions", b"/v1/messages?x=1", b"/v1/embeddings", b"/read", b"/elsewhere"])
    )
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nX-Filler: %b\r\n" % (target, b"y" * draw(st.integers(0, 20)))
    if draw(st.booleans()):
        data = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    else:
        chunks = [
            b"%x%b\r\n%b\r\n" % (len(c), draw(st.sampled_from([b"", b";a=b"])), c) for c in cut(body, draw(places))
        ]
        trailer = draw(st.sampled_from([b"", b"authorization: trailing\r\n"]))
        data = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"
    return data, body if target.startswith(b"/v1") else None


@given(st.lists(st.tuples(requests(), places), max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_requests_one_after_the_other_are_all_answered(
    script: list[tuple[tuple[bytes, bytes | None], list[int]]], slowly: bool
) -> None:
    async def main() -> None:
        client = Client()
        for (data, _), where in script:
            await client.send(cut(data, where), slowly=slowly)
            await turns()
        wanted = [body for (_, body), _ in script if body is not None]
        assert client.bodies == wanted
        assert [value for headers in client.headers for name, value in headers if name == b"authorization"] == []
        answered = [(404, b"none") if b is None else (200, b * 3 if b[:1] == b"s" else b) for (_, b), _ in script]
        assert client.answers() == answered
        assert not client.wire.is_closing()
        await client.wait_in_vain()

    run(main)


words = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"content-length: 3\r\n",
    b"Content-Length: -1\r\n",
    b"content-length: 0x3\r\n",
    b"content-length: 99999999999999999999\r\n",
    b"transfer-encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"expect: 100-continue\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b" folded\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"0\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"-1\r\n",
    b"\x16\x03\x01",
    b"\x80\xff",
    b"GET /read HTTP/1.1\r\n\r\n",
    b"GET /elsewhere HTTP/1.1\r\n\r\n",
    HIDDEN,
    b"x" * 300,
]
some_requests = st.lists(requests().map(lambda request: request[0]), min_size=1, max_size=3).map(b"".join)
anything = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from([CHAT, *words]), max_size=12).map(b"".join),
    some_requests,
    spoiled(some_requests, words),
)


@given(anything, places, st.booleans(), st.sampled_from(["waits", "leaves", "is reset"]))
@example(CHAT + b"content-length: 4\r\n\r\nslow" + b"GARBAGE\r\n\r\n", [], False, "waits")
@example(CHAT + b"content-length: 4\r\n\r\nslow" + b"GARBAGE\r\n\r\n", [len(CHAT) + 25], True, "waits")
@example(b"GET /read HTTP/1.1\r\n\r\nGARBAGE\r\n\r\n", [], False, "waits")
@example(b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf", [], False, "waits")
@example(b"POST /elsewhere HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf", [], False, "waits")
@example(b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\nWRONG", [60], True, "waits")
@example(
    CHAT + b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nok" + HIDDEN, [], False, "waits"
)
@example(CHAT + b"expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\nWRONG", [], False, "waits")
@settings(max_examples=700, deadline=None)
def test_whatever_comes_is_answered_with_http(data: bytes, where: list[int], slowly: bool, end: str) -> None:
    async def main() -> None:
        client = Client()
        await client.send(cut(data, where), slowly=slowly)
        if end != "waits":
            client.wire.lose(ConnectionResetError() if end == "is reset" else None)
        await turns()
        whole = Counter(data).whole
        assert len(client.bodies) <= whole
        if end == "waits":
            assert len(client.answers()) <= whole + 1
            assert whole == 0 or client.wire.written
            await client.wait_in_vain()
            assert len(client.answers()) <= whole + 1
        assert not client.edge.connections
        assert not client.connection.tasks

    run(main)


LENGTH = b"content-length: 6\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
SMUGGLED = {
    "length-and-chunked": CHAT + LENGTH + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "chunked-and-length": CHAT + CHUNKED + LENGTH + b"\r\n0\r\n\r\n" + HIDDEN,
    "two-lengths": CHAT + LENGTH + b"content-length: 0\r\n\r\n" + HIDDEN,
    "same-length-twice": CHAT + LENGTH + LENGTH + b"\r\n" + HIDDEN,
    "list-of-lengths": CHAT + b"content-length: 6, 6\r\n\r\n" + HIDDEN,
    "negative-length": CHAT + b"content-length: -6\r\n\r\n" + HIDDEN,
    "signed-length": CHAT + b"content-length: +6\r\n\r\n" + HIDDEN,
    "hexadecimal-length": CHAT + b"content-length: 0x6\r\n\r\n" + HIDDEN,
    "length-in-words": CHAT + b"content-length: 1 0\r\n\r\n" + HIDDEN,
    "no-length": CHAT + b"content-length: \r\n\r\n" + HIDDEN,
    "length-beyond-64-bits": CHAT + b"content-length: 18446744073709551617\r\n\r\n" + HIDDEN,
    "space-before-colon": CHAT + b"content-length : 6\r\n\r\n" + HIDDEN,
    "folded-header": CHAT + b"x: y\r\n " + CHUNKED + b"\r\n" + HIDDEN,
    "folded-length": CHAT + b"content-length:\r\n 6\r\n\r\n" + HIDDEN,
    "folded-encoding": CHAT + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "header-before-the-first": CHAT[:-9] + b" x: y\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "bare-lf": CHAT + b"x: y\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "bare-lf-ends-the-head": CHAT + LENGTH + b"\n" + HIDDEN,
    "bare-cr": CHAT + b"x: y\r" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "nul": CHAT + b"x: y\0\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "unknown-encoding": CHAT + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "encoding-not-last": CHAT + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked-twice": CHAT + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "two-encodings": CHAT + CHUNKED + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "tab-in-encoding": CHAT + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunk-size-not-hexadecimal": CHAT + CHUNKED + b"\r\nxyz\r\n" + HIDDEN,
    "chunk-size-0x": CHAT + CHUNKED + b"\r\n0x6\r\nHIDDEN\r\n0\r\n\r\n" + HIDDEN,
    "chunk-size-negative": CHAT + CHUNKED + b"\r\n-1\r\n\r\n" + HIDDEN,
    "chunk-size-beyond-64-bits": CHAT + CHUNKED + b"\r\n10000000000000000\r\n\r\n" + HIDDEN,
    "chunk-size-line-ends-with-lf": CHAT + CHUNKED + b"\r\n1\nx\r\n0\r\n\r\n" + HIDDEN,
    "chunk-longer-than-its-size": CHAT + CHUNKED + b"\r\n1\r\nxy\r\n0\r\n\r\n" + HIDDEN,
    "chunk-extension-ends-with-lf": CHAT + CHUNKED + b"\r\n1;a\nx\r\n0\r\n\r\n" + HIDDEN,
    "chunk-ends-without-crlf": CHAT + CHUNKED + b"\r\n1\r\nx0\r\n\r\n" + HIDDEN,
    "http-1.0-chunked": CHAT.replace(b"1.1", b"1.0") + LENGTH + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "another-version": CHAT.replace(b"1.1", b"1.9") + LENGTH + b"\r\n" + HIDDEN,
    "http-0.9": b"POST /v1/chat/completions\r\n" + HIDDEN,
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at-once", "byte-by-byte"])
@pytest.mark.parametrize("case", SMUGGLED)
def test_nothing_can_be_smuggled(case: str, bytewise: bool) -> None:
    data = SMUGGLED[case]

    async def main() -> None:
        client = Client()
        await client.send([bytes([b]) for b in data] if bytewise else [data], slowly=bytewise)
        await turns()
        assert client.bodies == []
        ((status, _),) = client.answers()
        assert status == 400
        await client.wait_in_vain()

    run(main)


@pytest.mark.parametrize(
    "endless",
    [b"x-filler: y\r\n", b"f" * 1000, b"1;extension=" + b"e" * 1000],
    ids=["trailers", "one-trailer", "extension"],
)
@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/read"])
def test_what_follows_the_head_without_being_a_body_is_bounded(endless: bytes, target: bytes) -> None:
    async def main() -> None:
        client = Client()
        head = b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % target
        await client.send([head, b"1\r\nx\r\n", b"" if endless.startswith(b"1;") else b"0\r\n"], slowly=True)
        sent = 0
        while not (client.wire.is_closing() or client.wire.ended):
            await client.send([endless])
            await turns()
            sent += len(endless)
            assert sent < 100_000
        assert client.bodies == []

    run(main)
