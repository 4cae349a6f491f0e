"""HTTP/1.1 to the upstreams: keep-alive connections on httptools, streaming, backpressure, abort.

Ours because it is the request path: a general client costs several times the rest of the gateway.
"""

import asyncio
from collections import deque
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S = 2.0
_HIGH_WATER = 256 * 1024
"""Bytes buffered of one response before the socket is no longer read."""


class UpstreamError(Exception):
    """The upstream could not be reached, broke off, or spoke something that is not HTTP."""


class Unreachable(UpstreamError):
    """No connection could be made."""


class StaleConnection(UpstreamError):
    """A kept-alive connection was closed before a byte of the response came: safe to try again."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._parser: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._error: UpstreamError | None = None
        self._head_complete = False
        self._complete = False
        self._framed = False
        self._paused = False
        self.closed = False
        self.used = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the response."""
        if self._parser is None or self._complete:
            self.closed = True
            self._fail(UpstreamError("it sent data that nobody asked for"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamError(f"its answer is not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is closed."""
        self.closed = True
        if self._complete or self._error:
            return
        if self._head_complete and not self._framed:  # a body that ends with the connection
            self._complete = True
            self._wake()
        elif self.used and not self._head_complete:
            self._fail(StaleConnection("it closed an idle connection"))
        else:
            self._fail(UpstreamError("it closed the connection before its answer was complete"))

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        """A response header."""
        name = name.lower()
        if name == b"content-length" or name == b"transfer-encoding":
            self._framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """All headers are there."""
        self.status = self._parser.get_status_code()
        self._head_complete = True
        self._wake()

    def on_body(self, data: bytes) -> None:
        """A piece of the body, already without chunk framing."""
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """The response is whole."""
        self._complete = True
        self._wake()

    # for the relay

    def send(self, head: bytes, body: bytes) -> None:
        """Send one request. The previous response must have been read to its end."""
        self._parser = httptools.HttpResponseParser(self)
        self._head_complete = self._complete = self._framed = False
        self.headers = []
        self._transport.write(head + body)

    async def head(self) -> None:
        """Wait for status and headers. Raises `UpstreamError`."""
        while not self._head_complete:
            await self._wait()

    async def read(self) -> bytes:
        """The next bytes of the body, empty at its end. Raises `UpstreamError`."""
        while not self._chunks:
            if self._complete:
                return b""
            await self._wait()
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def reusable(self) -> bool:
        """Whether the response was read to its end and the upstream keeps the connection."""
        return self._complete and not self._chunks and not self.closed and self._parser.should_keep_alive()

    def abort(self) -> None:
        """Close at once: the upstream sees its client go away and frees its slot."""
        self.closed = True
        self._transport.abort()

    async def _wait(self) -> None:
        if self._error:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        self._error = error
        self._wake()
        if not self._transport.is_closing():
            self._transport.abort()


class Upstream:
    """One upstream server and its idle connections."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.url = url.rstrip("/")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._host_header = f"{self._host}:{self._port}".encode()
        self._idle: list[Connection] = []
        self.healthy = True
        self.in_flight = 0

    def request_head(self, method: str, path: str, headers: list[tuple[bytes, bytes]], length: int) -> bytes:
        """The request line and headers as bytes."""
        lines = [b"%s %s HTTP/1.1" % (method.encode(), (self._prefix + path).encode()), b"host: " + self._host_header]
        lines += [name + b": " + value for name, value in headers]
        lines.append(b"content-length: %d\r\n\r\n" % length)
        return b"\r\n".join(lines)

    async def send(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes, timeout_s: float
    ) -> Connection:
        """Send a request and wait up to `timeout_s` for the response's headers.

        Raises `UpstreamError` (unreachable, broken off) or `TimeoutError`. A kept-alive connection that
        turns out to be closed is replaced by a fresh one.
        """
        head = self.request_head(method, path, headers, len(body))
        connection = self._kept() or await self._connect()
        try:
            async with asyncio.timeout(timeout_s):
                connection.send(head, body)
                await connection.head()
        except StaleConnection:
            self.close()  # the others are as old
            return await self.send(method, path, headers, body, timeout_s)
        except BaseException:
            connection.abort()
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """Give a connection back: kept when it can serve again, closed otherwise."""
        if connection.reusable:
            connection.used = True
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, fresh = await loop.create_connection(Connection, self._host, self._port)
        except TimeoutError:
            raise Unreachable(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise Unreachable(error.strerror or str(error)) from None
        return fresh
