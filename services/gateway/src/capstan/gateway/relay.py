"""The response on its way to the client: the upstream's bytes, chunk by chunk."""

import asyncio

import orjson

from capstan.common.errors import error_body
from capstan.gateway.exchange import Exchange, Headers
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.request import ParsedRequest
from capstan.gateway.tap import StreamTap, Usage
from capstan.gateway.upstream import Connection, UpstreamError

_KEPT = (b"content-type", b"retry-after", b"cache-control")
"""The upstream's headers that concern the client."""


async def relay(exchange: Exchange, request: ParsedRequest, connection: Connection, idle_s: float) -> None:
    """Pass the response on. `idle_s` bounds the silence between two pieces. Raises `Refusal` before the first byte."""
    if request.stream and connection.status == 200:
        await _stream(exchange, request, connection, idle_s)
    else:
        await _whole(exchange, connection, idle_s)


async def _stream(exchange: Exchange, request: ParsedRequest, connection: Connection, idle_s: float) -> None:
    record = exchange.record
    tap = exchange.tap = StreamTap(forward_usage=request.forward_usage)
    await exchange.start(200, [*_kept(connection.headers), (b"x-accel-buffering", b"no")])
    try:
        while data := await _read(connection, idle_s):
            if record.first_byte_at is None:
                record.first_byte_at = asyncio.get_running_loop().time()
            if out := tap.feed(data):
                await exchange.send({"type": "http.response.body", "body": out, "more_body": True})
        record.outcome = Outcome.COMPLETED if tap.done else Outcome.UPSTREAM_DIED
        if tap.failed:
            record.outcome = Outcome.UPSTREAM_ERROR
        reason = "it ended its answer early"
    except UpstreamError as error:
        record.outcome, reason = Outcome.UPSTREAM_DIED, str(error)
    except TimeoutError:
        record.outcome, reason = Outcome.UPSTREAM_TIMEOUT, f"it sent nothing for {idle_s:g} s"
    last = b"" if tap.done or tap.failed else error_event(f"the answer broke off: {reason}", record.outcome)
    await exchange.send({"type": "http.response.body", "body": last})


async def _whole(exchange: Exchange, connection: Connection, idle_s: float) -> None:
    """Read the body whole before passing it on, so that a failure is an error and not half an answer."""
    record = exchange.record
    record.first_byte_at = asyncio.get_running_loop().time()
    pieces = []
    try:
        while data := await _read(connection, idle_s):
            pieces.append(data)
    except UpstreamError as error:
        raise Refusal(Outcome.UPSTREAM_DIED, f"the upstream's answer broke off: {error}") from None
    except TimeoutError:
        raise Refusal(Outcome.UPSTREAM_TIMEOUT, f"the upstream sent nothing for {idle_s:g} s") from None
    body = b"".join(pieces)
    parsed = _json_or_none(body)
    if connection.status < 400:
        record.outcome = Outcome.COMPLETED
        record.usage = Usage.from_body(parsed)
    else:
        record.outcome = Outcome.UPSTREAM_REJECTED if connection.status < 500 else Outcome.UPSTREAM_ERROR
        if not isinstance(parsed, dict) or "error" not in parsed:
            message = f"the upstream answered {connection.status} without an explanation"
            body = orjson.dumps(error_body(message, "upstream_error", record.outcome))
    await exchange.respond(connection.status, _kept(connection.headers), body)


def error_event(message: str, code: str) -> bytes:
    """The event that ends a stream which broke: never a silent end, never `[DONE]`."""
    return b"data: " + orjson.dumps(error_body(message, "upstream_error", code)) + b"\n\n"


async def _read(connection: Connection, idle_s: float) -> bytes:
    async with asyncio.timeout(idle_s):
        return await connection.read()


def _kept(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if name in _KEPT]


def _json_or_none(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
