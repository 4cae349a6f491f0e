"""The HTTP client, fed with whatever an upstream may send."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fuzz.bytes_on_a_wire import FakeTransport, cut, places, run, spoiled, turns
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan.gateway.upstream import Upstream
from capstan.gateway.upstream_connection import UpstreamError, Watchdog

CLEAN = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nCLEAN"


@dataclass
class Response:
    """A response as a well-behaved server sends it, and whether the connection may serve another request."""

    data: bytes
    status: int
    body: bytes
    reusable: bool
    ends_with_connection: bool


class ScriptedUpstream:
    """An upstream to which the running loop makes fake connections, kept in the order in which they were made."""

    def __init__(self) -> None:
        self.wires: list[FakeTransport] = []
        self.real = Upstream("http://upstream:1", Watchdog())
        asyncio.get_running_loop().create_connection = self._connect  # type: ignore[method-assign]

    async def _connect(self, protocol: Any, *_: Any, **__: Any) -> Any:
        connection = protocol()
        self.wires.append(FakeTransport(connection))
        connection.connection_made(self.wires[-1])
        return self.wires[-1], connection


async def ask(upstream: Upstream, *, streamed: bool) -> tuple[int, bytes, bytes]:
    """Status, kept header lines and body of one request."""
    connection = await upstream.send(b"POST", b"/", b"", b"{}", 1.0, 0.0)
    try:
        if not streamed:
            return connection.status, connection.lines, await connection.body()
        pieces: list[bytes] = []
        await connection.stream(pieces.append)
        return connection.status, connection.lines, b"".join(pieces)
    finally:
        upstream.release(connection, 0.0)


async def feed(wire: FakeTransport, pieces: list[bytes], *, slowly: bool) -> None:
    """Let the upstream send these pieces, as long as somebody listens."""
    for piece in pieces:
        if wire.is_closing():
            return
        wire.protocol.data_received(piece)
        if slowly:
            await asyncio.sleep(0)


@st.composite
def responses(draw: st.DrawFn) -> Response:
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 500, 503, 529]))
    body = draw(st.binary(max_size=60))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    framing = draw(st.sampled_from(["length", "chunked", "end"] if version == b"1.1" else ["length", "end"]))
    closes = draw(st.booleans())
    interim = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\nretry-after: 9\r\n\r\n"])
    )
    head = b"HTTP/%b %d Whatever\r\nContent-Type: text/plain\r\n" % (version, status)
    head += b"connection: close\r\n" if closes else b""
    if framing == "length":
        data = b"content-length: %d\r\n\r\n%b" % (len(body), body)
    elif framing == "end":
        data = b"\r\n" + body
    else:
        chunks = [
            b"%x%b\r\n%b\r\n" % (len(c), draw(st.sampled_from([b"", b";a=b"])), c) for c in cut(body, draw(places))
        ]
        trailer = draw(st.sampled_from([b"", b"content-type: x/y\r\n"]))
        data = b"transfer-encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"
    reusable = framing != "end" and not closes and version == b"1.1"
    return Response(interim + head + data, status, body, reusable, framing == "end")


surplus = st.sampled_from([b"", b"", b"", CLEAN, b"HTTP/1.1 200 OK\r\n", b"garbage", b"H", b"\0"])


@given(st.lists(st.tuples(responses(), surplus, places, st.booleans(), st.booleans()), max_size=4))
@settings(max_examples=250, deadline=None)
def test_each_request_gets_its_own_response(script: list[tuple[Response, bytes, list[int], bool, bool]]) -> None:
    async def main() -> None:
        upstream = ScriptedUpstream()
        expected_connections, reusable = 0, False
        for response, extra, where, slowly, streamed in script:
            expected_connections += not reusable
            if response.ends_with_connection:
                extra = b""
            asking = asyncio.create_task(ask(upstream.real, streamed=streamed))
            await asyncio.sleep(0)
            wire = upstream.wires[-1]
            await feed(wire, cut(response.data + extra, where), slowly=slowly)
            if response.ends_with_connection:
                wire.lose(None)
            await turns()
            reusable = response.reusable and not extra
            assert asking.result() == (response.status, b"Content-Type: text/plain\r\n", response.body)
            assert len(upstream.wires) == expected_connections
            assert upstream.real.running == 0
            if not reusable:
                assert wire.is_closing()

    run(main)


words = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n",
    b"content-length: 3\r\n",
    b"Content-Length: -1\r\n",
    b"content-length: 99999999999999999999\r\n",
    b"204",
    b"304",
    b"100",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"retry-after: 1\r\n 2\r\n",
    b"0\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"connection: keep-alive\r\n",
    b"\x80\xff",
]
anything = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from(words), max_size=12).map(b"".join),
    responses().map(lambda response: response.data),
    spoiled(responses().map(lambda response: response.data), words),
)


@given(anything, places, st.booleans(), st.booleans(), st.sampled_from(["clean", "reset", "stays"]))
@example(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nxyz", [], False, False, "clean")
@example(CLEAN + CLEAN, [], False, False, "stays")
@settings(max_examples=600, deadline=None)
def test_whatever_comes_ends_in_an_answer_or_an_upstream_error(
    data: bytes, where: list[int], slowly: bool, streamed: bool, end: str
) -> None:
    async def main() -> None:
        upstream = ScriptedUpstream()
        asking = asyncio.create_task(ask(upstream.real, streamed=streamed))
        await asyncio.sleep(0)
        (wire,) = upstream.wires
        await feed(wire, cut(data, where), slowly=slowly)
        await turns()
        if not asking.done():
            if end == "stays":
                wire.protocol.look(1.0)
                wire.protocol.look(1.5)
                wire.protocol.look(9.0)  # silent for longer than it may
            else:
                wire.lose(ConnectionResetError() if end == "reset" else None)
            await turns()
        assert asking.done()
        error = asking.exception()
        if error is None:
            status, lines, _ = asking.result()
            assert 200 <= status <= 999
            assert all(line.strip() and b"\r" not in line and b"\n" not in line for line in lines.split(b"\r\n")[:-1])
        else:
            assert isinstance(error, UpstreamError)
        assert upstream.real.running == 0

        again = asyncio.create_task(ask(upstream.real, streamed=streamed))
        await asyncio.sleep(0)
        assert (wire.is_closing()) == (len(upstream.wires) == 2)
        await feed(upstream.wires[-1], [CLEAN], slowly=False)
        await turns()
        assert again.result() == (200, b"", b"CLEAN")

    run(main)


def test_a_body_that_a_reset_cuts_off_is_not_whole() -> None:
    async def main() -> None:
        upstream = ScriptedUpstream()
        asking = asyncio.create_task(ask(upstream.real, streamed=False))
        await asyncio.sleep(0)
        await feed(upstream.wires[0], [b"HTTP/1.1 200 OK\r\n\r\nhalf of"], slowly=False)
        upstream.wires[0].lose(ConnectionResetError())
        await turns()
        assert isinstance(asking.exception(), UpstreamError)

    run(main)
