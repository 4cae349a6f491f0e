"""One model request and the client's end of it."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from capstan.gateway.api import Api
from capstan.gateway.outcome import Refusal

if TYPE_CHECKING:
    import asyncio

    from capstan.gateway.upstream_connection import Connection

Headers = list[tuple[bytes, bytes]]

_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\nx-accel-buffering: no\r\n"


class Wire(Protocol):
    """What an exchange needs of its connection."""

    keep_alive: bool
    chunked: bool

    def write(self, data: bytes) -> None:
        """Send bytes; they are buffered where the client is slow."""

    def date(self) -> bytes:
        """The `date` header line."""


class Exchange:
    """One model request: what came in, and how to answer it."""

    __slots__ = ("api", "arrived", "body", "gone", "headers", "lines", "problem", "started", "task", "upstream", "wire")

    def __init__(self, wire: Wire, api: Api, headers: Headers, body: bytes, arrived: float) -> None:
        self.wire = wire
        self.api = api
        self.headers = headers
        self.body = body
        self.arrived = arrived
        self.lines = b""
        """Header lines of every answer to this request: its id, the tenant's limits."""
        self.problem: Refusal | None = None
        """Why the request was not even received whole."""
        self.started = False
        """Whether the answer has begun."""
        self.gone = False
        """Whether the client has left."""
        self.task: asyncio.Task[None] | None = None
        self.upstream: Connection | None = None
        """Where a stream comes from; it is held back while the client does not read."""

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole answer. `lines` are header lines that end with CRLF."""
        self.started = True
        wire = self.wire
        wire.write(
            b"%b%b%b%b%bcontent-length: %d\r\n\r\n%b"
            % (
                _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status,
                wire.date(),
                lines,
                self.lines,
                b"" if wire.keep_alive else _CLOSE,
                len(body),
                body,
            )
        )

    def start(self, status: int, lines: bytes) -> None:
        """Begin a streamed answer."""
        self.started = True
        wire = self.wire
        if not wire.chunked:
            wire.keep_alive = False  # HTTP/1.0: the end of the connection is the end of the answer
        framing = _CHUNKED if wire.chunked else b""
        wire.write(
            b"%b%b%b%b%b%b\r\n"
            % (_STATUS[status], wire.date(), lines, self.lines, framing, b"" if wire.keep_alive else _CLOSE)
        )

    def send(self, data: bytes) -> None:
        """Send a piece of a streamed answer."""
        if data:
            self.wire.write(b"%x\r\n%b\r\n" % (len(data), data) if self.wire.chunked else data)

    def end(self) -> None:
        """End a streamed answer."""
        if self.wire.chunked:
            self.wire.write(b"0\r\n\r\n")
