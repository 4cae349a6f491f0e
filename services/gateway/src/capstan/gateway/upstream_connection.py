"""One HTTP/1.1 connection to an upstream, on httptools: streaming, backpressure, abort.

Ours because it is the request path: a general client costs several times the rest of the gateway. There are no timers
for each request: a `Watchdog` looks at all running connections ten times a second.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import httptools

_HIGH_WATER = 256 * 1024
"""Bytes buffered of one response before the socket is no longer read."""

_TICK_S = 0.1

_FRAMING, _KEPT = "framing", "kept"
_ROLES = {
    b"content-length": _FRAMING,
    b"transfer-encoding": _FRAMING,
    b"content-type": _KEPT,
    b"retry-after": _KEPT,
    b"cache-control": _KEPT,
}
"""What a response header is for; all others stay here."""
Sink = Callable[[bytes], None]


class UpstreamError(Exception):
    """The upstream could not be reached, broke off, or spoke something that is not HTTP."""


class Unreachable(UpstreamError):
    """No connection could be made."""


class StaleConnection(UpstreamError):
    """A kept-alive connection was closed before a byte of the response came: safe to try again."""


class Silent(UpstreamError):
    """The upstream said nothing for longer than it may."""


class Watchdog:
    """Ends connections whose upstream is silent for too long."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for connection in list(self.connections):
                connection.look(now)


class Connection:
    """One connection, one request at a time. Its response is read whole (`body`) or handed to a sink (`stream`).

    An `asyncio.Protocol` in all but name: as a subclass its attributes would live in a dict when compiled.
    """

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self._parser: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._sink: Sink | None = None
        self._gathering = False
        self._error: UpstreamError | None = None
        self.head_complete = False
        self.complete = True
        self._framed = False
        self._keep_alive = False
        self._paused = False
        self._heard = False
        self._silent_since = 0.0
        self._limit_s = 0.0
        self.closed = False
        self.used = False
        self.status = 0
        self.lines = b""
        """The header lines that concern the client."""
        self.began = 0.0
        """The upstream's virtual time when this request was sent."""

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._loop = asyncio.get_running_loop()  # kept: asking for it costs a system call
        self._parser = httptools.HttpResponseParser(self)  # one for all: it begins anew after each message

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the response."""
        self._heard = True
        if self.complete:
            self.abort()  # it sends what nobody asked for, and would send it to the next request
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self._fail(UpstreamError(f"its answer is not HTTP: {error}"))
                return
            self.abort()  # the answer is whole, but more followed
        if self._sink is not None and self._chunks:
            self._pour(self._sink)
        elif self._buffered > _HIGH_WATER and not self._gathering:
            self.pause()

    def eof_received(self) -> None:
        """asyncio: the upstream says no more; the transport closes."""

    def pause_writing(self) -> None:
        """asyncio: the upstream reads slowly. A request's body is in memory anyway."""

    def resume_writing(self) -> None:
        """asyncio: the upstream reads again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is closed."""
        self.closed = True
        if self.complete or self._error:
            return
        if self.head_complete and not self._framed and exc is None:  # a body that ends with the connection
            self.complete = True
            self._wake()
        elif self.used and not self._heard and not self._silent_since:  # at once, before the watchdog's first look
            self._fail(StaleConnection("it closed an idle connection"))
        else:
            self._fail(UpstreamError("it closed the connection before its answer was complete"))

    # httptools

    def on_message_begin(self) -> None:
        """A response begins; a second one in the same piece ends the parsing."""
        if self.complete:
            raise UpstreamError("it sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A response header, or a field of a trailer, which concerns nobody."""
        if self.head_complete:
            return
        role = _ROLES.get(name) or _ROLES.get(name.lower())
        if role is _FRAMING:
            self._framed = True
        elif role is _KEPT:
            self.lines += b"%b: %b\r\n" % (name, value)

    def on_headers_complete(self) -> None:
        """All headers are there. An informational response is not the answer yet."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.lines = b""
            self._framed = False
            return
        self.head_complete = True
        self._wake()

    def on_body(self, data: bytes) -> None:
        """A piece of the body, already without chunk framing."""
        self._chunks.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        """The response is whole."""
        if self.head_complete:
            self._keep_alive = bool(self._parser.should_keep_alive())  # only here: the parser forgets
            self.complete = True
            self._wake()

    # for the dispatcher and the relay

    def send(self, head: bytes, body: bytes, limit_s: float) -> None:
        """Send one request. The previous response must have been read to its end. `limit_s` bounds the silence."""
        self.head_complete = self.complete = self._framed = self._keep_alive = self._heard = False
        self._sink = None
        self._gathering = False
        self.lines = b""
        self._limit_s = limit_s
        self._silent_since = 0.0
        self._watchdog.connections.add(self)
        self._transport.write(head + body)

    def changed(self) -> "asyncio.Future[None]":
        """Done when the head or the end of the response has come, or when it broke. Raises what broke it."""
        if self._error is not None:
            raise self._error
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def allow_silence(self, limit_s: float) -> None:
        """From now on the upstream may be silent for `limit_s` seconds between two pieces."""
        self._limit_s = limit_s

    async def body(self) -> bytes:
        """The whole body. Raises `UpstreamError`."""
        self._gathering = True
        self.resume()
        while not self.complete:
            await self.changed()
        return self.take()

    def take(self) -> bytes:
        """What has come of the body and was not taken yet."""
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        return data

    async def stream(self, sink: Sink) -> None:
        """Hand every piece of the body to `sink` as it comes, until its end. Raises `UpstreamError`."""
        self._sink = sink
        self.resume()
        if self._chunks:
            self._pour(sink)
        while not self.complete:
            await self.changed()
        if self._error is not None:
            raise self._error

    def pause(self) -> None:
        """Do not read from the upstream for now: backpressure."""
        if not self._paused and not self.closed:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the upstream again."""
        if self._paused and not self.closed:
            self._paused = False
            self._heard = True
            self._transport.resume_reading()

    def look(self, now: float) -> None:
        """The watchdog's look: end the connection if the upstream has been silent for too long."""
        if self._heard or self._paused or not self._silent_since:
            self._silent_since = now
            self._heard = False
        elif now - self._silent_since > self._limit_s:
            self._fail(Silent(f"it sent nothing for {self._limit_s:g} s"))

    def rest(self) -> bool:
        """The request is over; whether the connection can serve another one."""
        self._watchdog.connections.discard(self)
        self._sink = None
        return self.complete and self._keep_alive and not self.closed and not self._error

    def abort(self) -> None:
        """Close at once: the upstream sees its client go away and frees its slot."""
        self.closed = True
        self._watchdog.connections.discard(self)
        self._transport.abort()

    def _pour(self, sink: Sink) -> None:
        try:
            sink(self.take())
        except Exception as error:  # the sink is ours; its fault must not vanish in the event loop
            self._fail(UpstreamError(f"its answer could not be read: {error!r}"))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        self._error = error
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_exception(error)
        if not self._transport.is_closing():
            self._transport.abort()
