"""The clients' side: uvicorn's HTTP/1.1 protocol with a lane of its own for model requests.

A model request is handed to the endpoint as soon as its last byte is there, without the ASGI messages, queues and tasks
between; everything else goes through uvicorn to the control plane. What a public port needs besides: bounds on the size
and time of a request's head and body, on idle connections, and on clients that do not read their answer.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from capstan.common.errors import ApiError, error_body
from capstan.common.middleware import too_large
from capstan.gateway.api import APIS, Api
from capstan.gateway.exchange import Exchange
from capstan.gateway.outcome import Outcome, Refusal

Endpoint = Callable[[Exchange], Awaitable[None]]

MAX_HEAD_BYTES = 64 * 1024
_LANE = {path.encode(): api for path, api in APIS.items()}
_SWEEP_S = 1.0
_LINGER_S = 2.0


@dataclass(slots=True)
class Edge:
    """What all client connections of a gateway share. Times are in seconds."""

    endpoint: Endpoint
    max_body_bytes: int
    receive_timeout_s: float
    keep_alive_s: float
    stall_timeout_s: float = 60.0
    """How long a client may leave its answer unread."""
    connections: "set[ClientConnection]" = field(default_factory=set)

    def protocol(self, *args: Any, **kwargs: Any) -> "ClientConnection":
        """uvicorn's `http` class."""
        return ClientConnection(self, *args, **kwargs)

    async def run(self) -> None:
        """Close connections that wait for nothing, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            for connection in list(self.connections):
                connection.look(now)


class ClientConnection(HttpToolsProtocol):
    """One client connection."""

    def __init__(self, edge: Edge, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edge = edge
        self._time = time.monotonic
        self._api: Api | None = None
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] = None  # type: ignore[assignment]
        self._body: list[bytes] = []
        self._size = 0
        self._head_size = 0
        self._head_open = False
        self._receiving = False
        self._deaf = False
        """The rest of what the client sends is not for us: the connection closes after the present answer."""
        self._expectant = False
        """A model request's head has come; its client may wait for a word before it sends the body."""
        self._declined = b""
        """The head of a model request that offers to upgrade, as it is read anew."""
        self._data = b""
        self._lingering = False
        """All is said, but the client still sends: closing now would destroy the answer on its way (TCP reset)."""
        self._since = self._time()
        self._stalled_since = 0.0
        self._defaults: list[tuple[bytes, bytes]] = []
        self._date = b""
        self.keep_alive = True
        self.chunked = True

    # asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio: a client has connected."""
        super().connection_made(transport)
        self._edge.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client has left; whatever works for it stops."""
        self._edge.connections.discard(self)
        exchange = self._exchange
        if exchange is not None:
            exchange.gone = True
            if exchange.task is not None:
                exchange.task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of requests."""
        if self._deaf:
            return
        size = self._size
        self._data = data
        super().data_received(data)
        if self._deaf or not self._receiving:
            return
        if self._expectant:
            self._expectant = False
            if any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers):
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self._size > size:
            self._head_size = 0
        else:  # a head, a trailer, or a chunk's extension
            self._head_size += len(data)
            if self._head_size > MAX_HEAD_BYTES:
                self._refuse(
                    b"431 Request Header Fields Too Large", "header_too_large", "the head is larger than 64 KiB"
                )

    def pause_writing(self) -> None:
        """asyncio: the client does not read; hold the upstream back."""
        super().pause_writing()
        self._stalled_since = self._time()
        if self._exchange is not None and self._exchange.upstream is not None:
            self._exchange.upstream.pause()

    def resume_writing(self) -> None:
        """asyncio: the client reads again."""
        super().resume_writing()
        self._stalled_since = 0.0
        if self._exchange is not None and self._exchange.upstream is not None:
            self._exchange.upstream.resume()

    # httptools

    def on_message_begin(self) -> None:
        """A request begins. One that is sent before the answer to the last one is there is not read."""
        if self._busy():
            self._end_after_this_answer()
            return
        self._receiving = self._head_open = True
        self._head_size = self._size = 0
        self._since = self._time()
        self._api = None
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        if not self._deaf:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A request header. The fields of a trailer are none."""
        if self._head_open:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there: a model request, or one for uvicorn."""
        if self._deaf:
            return
        parser = self.parser
        api = _LANE.get(self.url.partition(b"?")[0]) if parser.get_method() == b"POST" else None
        if api is None:
            self._hand_over()
            self._head_open = False
            return
        self._head_open = False
        if parser.should_upgrade():
            self._declined = self._decline()
            return
        self._api = api
        self._body = []
        self.chunked = parser.get_http_version() != "1.0"
        self.keep_alive = self.chunked and parser.should_keep_alive()
        self._expectant = True

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        if self._deaf:
            return
        self._size += len(body)
        if self._api is None:
            super().on_body(body)
        elif self._size > self._edge.max_body_bytes:
            self._start(self._api, too_large(self._edge.max_body_bytes))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._deaf or self._declined:
            return
        self._receiving = self._expectant = False
        if self._api is None:
            super().on_message_complete()
        else:
            self._start(self._api)

    # uvicorn's answers to what it does not understand

    def send_400_response(self, msg: str) -> None:
        """What the client sends is not HTTP. An answer that is under way stays whole."""
        if self._busy() and not self._receiving:
            self._end_after_this_answer()
        else:
            self._refuse(b"400 Bad Request", "invalid_http", "this is not a valid HTTP/1.1 request")

    def _unsupported_upgrade_warning(self) -> None:
        """The client offers another protocol, such as h2c: declined by serving the request as HTTP/1.1 (RFC 9110, 7.8).

        The parser stops behind the head, as if no body followed, so a new one reads the request without the offer.
        """
        declined, rest = self._declined, self._data[sys.exc_info()[1].args[0] :]  # type: ignore[union-attr]
        self._declined = b""
        if not declined:  # on uvicorn's lane
            self._end_after_this_answer()
            return
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(declined + rest)

    def _decline(self) -> bytes:
        """The present request's head without its offer to upgrade."""
        kept = [pair for pair in self.headers if pair[0] not in (b"upgrade", b"connection", b"http2-settings")]
        lines = b"".join(b"%b: %b\r\n" % pair for pair in kept)
        return b"POST %b HTTP/%b\r\n%b\r\n" % (self.url, self.parser.get_http_version().encode(), lines)

    # the wire that exchanges write to

    def write(self, data: bytes) -> None:
        """Send bytes, as long as the client is there."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def date(self) -> bytes:
        """The default header lines; uvicorn renews them every second."""
        defaults = self.server_state.default_headers
        if defaults is not self._defaults:
            self._defaults = defaults
            self._date = b"".join(b"%b: %b\r\n" % pair for pair in defaults)
        return self._date

    # life

    def shutdown(self) -> None:
        """uvicorn: close now if nothing runs, else after the present answer."""
        if self._exchange is not None:
            self.keep_alive = False
        else:
            super().shutdown()

    def look(self, now: float) -> None:
        """The sweep's look: close what waits in vain."""
        if self._lingering:
            if now - self._since > _LINGER_S:
                self.transport.abort()
        elif self._stalled_since:
            if now - self._stalled_since > self._edge.stall_timeout_s:
                self.transport.abort()
        elif self._receiving and self._exchange is None:
            if now - self._since > self._edge.receive_timeout_s:
                self._refuse(b"408 Request Timeout", "request_timeout", "the request did not arrive in time")
        elif self._busy():
            return
        elif now - self._since > self._edge.keep_alive_s:
            self.transport.close()

    def _busy(self) -> bool:
        return self._exchange is not None or (self.cycle is not None and not self.cycle.response_complete)

    def _hand_over(self) -> None:
        """Let uvicorn serve this request."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _start(self, api: Api, error: ApiError | None = None) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        exchange = Exchange(self, api, self.headers, body, self._since)
        if error is not None:
            exchange.problem = Refusal(Outcome.REQUEST_TOO_LARGE, error.detail)
            self._deaf, self.keep_alive = True, False
        self._exchange = exchange
        self._task = task = self.loop.create_task(self._run(exchange))
        self.tasks.add(task)

    async def _run(self, exchange: Exchange) -> None:
        exchange.task = task = self._task  # from here on it can be cancelled and still be accounted for
        try:
            await self._edge.endpoint(exchange)
        finally:
            self.tasks.discard(task)
            self._exchange = None
            self.server_state.total_requests += 1
            self._since = self._time()
            if not self.keep_alive:
                self._close()

    def _end_after_this_answer(self) -> None:
        """Whatever else the client sends is not for us."""
        self._deaf, self.keep_alive = True, False
        if self.cycle is not None:
            self.cycle.keep_alive = False
        if not self._busy():
            self._close()

    def _refuse(self, status: bytes, code: str, message: str) -> None:
        """Answer a request that was not received, and close."""
        if self._receiving and self._api is None and not self._head_open:  # uvicorn has it already
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._deaf, self._head_open = True, False
        body = orjson.dumps(error_body(message, "invalid_request_error", code))
        lines = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.write(b"HTTP/1.1 %b\r\n%b%b" % (status, lines, body))
        self._receiving = True
        self._close()

    def _close(self) -> None:
        """Close, after the client has had a moment to stop sending and read the answer."""
        if self.transport.is_closing():
            return
        if self._receiving and self.transport.can_write_eof():
            self._lingering, self._since = True, self._time()
            self.transport.write_eof()
        else:
            self.transport.close()
