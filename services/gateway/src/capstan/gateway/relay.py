"""The response on its way to the client: the upstream's bytes, chunk by chunk."""

from collections.abc import Callable

import orjson

from capstan.gateway.api import error_event, error_object
from capstan.gateway.exchange import Exchange
from capstan.gateway.outcome import Outcome
from capstan.gateway.record import Record
from capstan.gateway.tap import StreamTap, Usage
from capstan.gateway.upstream_connection import Connection, Silent, UpstreamError


async def relay_stream(
    exchange: Exchange,
    record: Record,
    connection: Connection,
    tap: StreamTap,
    now: Callable[[], float],
    first_token: Callable[[float], None],
) -> None:
    """Pass a stream on, event by event. `first_token` is told the seconds from sending to the first byte.

    Raises `UpstreamError` as long as the client has seen nothing, so that another upstream can be tried.
    """
    send, feed = exchange.send, tap.feed

    def sink(data: bytes) -> None:
        if not exchange.started:
            record.first_byte = now()
            record.status = 200
            first_token(record.first_byte - record.sent)
            exchange.start(200, connection.lines + record.timing(record.first_byte))
        if out := feed(data):
            send(out)

    exchange.upstream = connection
    last = b""
    try:
        await connection.stream(sink)
        last = tap.end()
        _check_ended(exchange, tap)
    except UpstreamError as error:
        if not exchange.started:
            raise
        if not tap.done:
            _break_off(exchange, record, error)
            return
    finally:
        exchange.upstream = None
    exchange.send(last)
    exchange.end()
    record.outcome = Outcome.UPSTREAM_ERROR if tap.failed else Outcome.COMPLETED


def _check_ended(exchange: Exchange, tap: StreamTap) -> None:
    """Raise `UpstreamError` if the upstream has ended a stream too early."""
    if not exchange.started:
        raise UpstreamError("it ended its answer before it began")
    if not tap.done and not tap.failed:
        raise UpstreamError("it ended its answer early")


def _break_off(exchange: Exchange, record: Record, error: UpstreamError) -> None:
    """End a stream that broke with an event that says so."""
    record.outcome = Outcome.UPSTREAM_TIMEOUT if isinstance(error, Silent) else Outcome.UPSTREAM_DIED
    exchange.send(error_event(exchange.api, f"the answer broke off: {error}", record.outcome.value))
    exchange.end()


async def relay_whole(exchange: Exchange, record: Record, connection: Connection, now: Callable[[], float]) -> None:
    """Read the body whole before passing it on, so that a failure is an error and not half an answer.

    Raises `UpstreamError`.
    """
    body = connection.take() if connection.complete else await connection.body()
    record.first_byte = now()
    record.whole = True
    record.status = status = connection.status
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    lines = connection.lines
    if status < 400:
        record.outcome = Outcome.COMPLETED
        record.usage = Usage.from_body(parsed)
    else:
        record.outcome = Outcome.UPSTREAM_REJECTED if status < 500 else Outcome.UPSTREAM_ERROR
        if not isinstance(parsed, dict):
            message = f"the upstream answered {status} without an explanation"
            body = orjson.dumps(error_object(exchange.api, message, "upstream_error", record.outcome.value, None))
            lines = b"content-type: application/json\r\n"
    exchange.respond(status, lines + record.timing(now()), body)
