"""A model request from its first byte to its last: the hot path, as a raw ASGI application."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
from starlette.types import Receive, Scope, Send

from capstan.common.context import REQUEST_ID_HEADER, accept_request_id
from capstan.common.disconnect import ClientGone, until_disconnect
from capstan.common.errors import error_body
from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.common.middleware import too_large
from capstan.gateway.auth import Authenticator, Principal
from capstan.gateway.metering import Metering, Record
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.quota import MemoryQuota, Reservation
from capstan.gateway.relay import StreamTap, Usage, error_event
from capstan.gateway.request import ParsedRequest, parse
from capstan.gateway.routing import PoolState, Router
from capstan.gateway.tracing import request_span
from capstan.gateway.upstream import Connection, Unreachable, Upstream, UpstreamError

log = logging.getLogger("capstan.gateway")

Headers = list[tuple[bytes, bytes]]

PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})

_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_FORWARDED = frozenset({b"accept", b"user-agent", b"traceparent", b"tracestate"})
_REQUEST_ID = REQUEST_ID_HEADER.encode()


@dataclass(slots=True)
class _Exchange:
    """One request and the client's end of it."""

    scope: Scope
    receive: Receive
    send: Send
    record: Record
    reservation: Reservation | None = None
    tap: StreamTap | None = None
    limit_headers: Headers | None = None
    started: bool = False

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self.record.status = status
        identified = [*headers, *(self.limit_headers or []), (_REQUEST_ID, self.record.request_id.encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": identified})

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.send({"type": "http.response.body", "body": body})


class ModelEndpoint:
    """Serves `PATHS`. Everything it needs is handed in."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        quota: MemoryQuota,
        router: Router,
        metering: Metering,
        signer: Signer,
        max_body_bytes: int,
    ) -> None:
        self._authenticator = authenticator
        self._quota = quota
        self._router = router
        self._metering = metering
        self._signer = signer
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, it is answered, settled and metered once."""
        loop = asyncio.get_running_loop()
        record = Record(accept_request_id(_find(scope["headers"], _REQUEST_ID)), loop.time())
        exchange = _Exchange(scope, receive, send, record)
        try:
            await self._serve(exchange)
        except Refusal as refusal:
            await self._refuse(exchange, refusal)
        except ClientGone:
            record.outcome = Outcome.CLIENT_CLOSED
        except Exception:
            log.exception("unhandled error", extra={"request_id": record.request_id})
            await self._refuse(
                exchange, Refusal(Outcome.INTERNAL_ERROR, "internal error; the log has it under this request id")
            )
        finally:
            self._metering.finish(record, loop.time())

    async def _serve(self, exchange: _Exchange) -> None:
        record = exchange.record
        principal = self._authenticator.authenticate(exchange.scope["headers"])
        record.tenant = principal.tenant
        request = parse(await self._read_body(exchange))
        model, pool = self._router.find(request.model)
        record.model, record.stream = request.model, request.stream
        if not principal.may_use(request.model):
            message = f"this key may not use the model {request.model!r}"
            raise Refusal(Outcome.MODEL_NOT_ALLOWED, message, param="model")
        record.metered = not pool.config.internal
        tokens = request.reserve(model.default_output_tokens) if record.metered else 0
        with self._reserved(exchange, principal, request, tokens), request_span(exchange.scope, record):
            await until_disconnect(exchange.receive, self._admit_and_relay(exchange, principal, request, pool))

    @contextmanager
    def _reserved(
        self, exchange: _Exchange, principal: Principal, request: ParsedRequest, tokens: int
    ) -> Iterator[None]:
        """Hold the tenant's quota while the request runs, then settle it to what was really used."""
        counts = not principal.internal
        reservation = self._quota.reserve(principal.tenant, principal.limits, tokens, count_request=counts)
        exchange.limit_headers = self._limit_headers(principal)
        try:
            yield
        finally:
            record, tap = exchange.record, exchange.tap
            if record.usage is None and tap is not None:
                # A stream that broke off has no usage event; each of its events is about a token.
                record.usage = tap.usage or (Usage(request.prompt_tokens, tap.events) if tap.events else None)
            used = record.usage.total if record.usage and record.metered else 0
            self._quota.settle(reservation, used, count_request=counts)

    async def _admit_and_relay(
        self, exchange: _Exchange, principal: Principal, request: ParsedRequest, pool: PoolState
    ) -> None:
        loop = asyncio.get_running_loop()
        queued = loop.time()
        async with pool.admission.slot(principal.tenant):
            exchange.record.queued_s = loop.time() - queued
            upstream, connection = await self._dispatch(exchange, principal, request, pool)
            try:
                await self._relay(exchange, request, pool, connection)
            finally:
                upstream.in_flight -= 1
                upstream.release(connection)

    async def _dispatch(
        self, exchange: _Exchange, principal: Principal, request: ParsedRequest, pool: PoolState
    ) -> tuple[Upstream, Connection]:
        """Send the request on; once more, elsewhere, if it fails before the first byte of an answer."""
        headers = self._upstream_headers(exchange, principal, pool)
        upstream = pool.choose()
        try:
            return await self._send(upstream, exchange, headers, request, pool)
        except UpstreamError as first:
            if isinstance(first, Unreachable):
                upstream.healthy = False
            others = [u for u in pool.upstreams if u.healthy and u is not upstream]
            if not others:
                raise self._failed(first, upstream) from None
            upstream = pool.choose(excluding=upstream)
        try:
            return await self._send(upstream, exchange, headers, request, pool)
        except UpstreamError as second:
            raise self._failed(second, upstream) from None

    async def _send(
        self, upstream: Upstream, exchange: _Exchange, headers: Headers, request: ParsedRequest, pool: PoolState
    ) -> tuple[Upstream, Connection]:
        timeout_s = pool.config.first_byte_timeout_s
        upstream.in_flight += 1
        try:
            connection = await upstream.send("POST", exchange.scope["path"], headers, request.body, timeout_s)
        except BaseException as error:
            upstream.in_flight -= 1
            if isinstance(error, TimeoutError):
                message = f"{upstream.url} did not begin its answer within {timeout_s:g} s"
                raise Refusal(Outcome.UPSTREAM_TIMEOUT, message) from None
            raise
        return upstream, connection

    async def _relay(
        self, exchange: _Exchange, request: ParsedRequest, pool: PoolState, connection: Connection
    ) -> None:
        exchange.record.first_byte_at = asyncio.get_running_loop().time()
        idle_s = pool.config.idle_timeout_s
        if request.stream and connection.status == 200:
            await self._relay_stream(exchange, request, connection, idle_s)
        else:
            await self._relay_whole(exchange, connection, idle_s)

    async def _relay_stream(
        self, exchange: _Exchange, request: ParsedRequest, connection: Connection, idle_s: float
    ) -> None:
        record = exchange.record
        tap = exchange.tap = StreamTap(forward_usage=request.forward_usage)
        await exchange.start(200, [*_kept(connection.headers), (b"x-accel-buffering", b"no")])
        try:
            while data := await _read(connection, idle_s):
                if out := tap.feed(data):
                    await exchange.send({"type": "http.response.body", "body": out, "more_body": True})
            record.outcome = Outcome.COMPLETED if tap.done else Outcome.UPSTREAM_DIED
            reason = "it ended its answer early"
        except UpstreamError as error:
            record.outcome, reason = Outcome.UPSTREAM_DIED, str(error)
        except TimeoutError:
            record.outcome, reason = Outcome.UPSTREAM_TIMEOUT, f"it sent nothing for {idle_s:g} s"
        last = b"" if tap.done else error_event(f"the answer broke off: {reason}", record.outcome)
        await exchange.send({"type": "http.response.body", "body": last})

    async def _relay_whole(self, exchange: _Exchange, connection: Connection, idle_s: float) -> None:
        """A body that is read whole before it is passed on, so that a failure is an error and not half an answer."""
        record = exchange.record
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

    async def _read_body(self, exchange: _Exchange) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await exchange.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._max_body_bytes:
                raise Refusal(Outcome.REQUEST_TOO_LARGE, too_large(self._max_body_bytes).detail)
            pieces.append(piece)
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _upstream_headers(self, exchange: _Exchange, principal: Principal, pool: PoolState) -> Headers:
        headers = [pair for pair in exchange.scope["headers"] if pair[0] in _FORWARDED]
        headers += [_JSON, (_REQUEST_ID, exchange.record.request_id.encode())]
        if pool.config.internal:
            token = self._signer.sign(Identity(principal.tenant, "gateway"))
            headers.append((IDENTITY_HEADER.encode(), token.encode()))
        return headers

    def _limit_headers(self, principal: Principal) -> Headers:
        tenant, limits = principal.tenant, principal.limits
        values = {
            "x-ratelimit-limit-requests": limits.requests_per_minute,
            "x-ratelimit-remaining-requests": self._quota.remaining_requests(tenant, limits),
            "x-ratelimit-limit-tokens": limits.tokens_per_minute,
            "x-ratelimit-remaining-tokens": self._quota.remaining_tokens(tenant, limits),
        }
        return [(name.encode(), str(value).encode()) for name, value in values.items()]

    @staticmethod
    def _failed(error: UpstreamError, upstream: Upstream) -> Refusal:
        if isinstance(error, Unreachable):
            message = f"{upstream.url} cannot be reached ({error}); it may still be starting"
            return Refusal(Outcome.NO_UPSTREAM, message, retry_after=5)
        return Refusal(Outcome.UPSTREAM_DIED, f"{upstream.url} failed before its answer began: {error}")

    @staticmethod
    async def _refuse(exchange: _Exchange, refusal: Refusal) -> None:
        exchange.record.outcome = refusal.outcome
        if exchange.started:  # too late for a status: say it as the stream's last event
            event = error_event(refusal.detail, refusal.code)
            await exchange.send({"type": "http.response.body", "body": event})
            return
        extra = [(k.encode(), v.encode()) for k, v in (refusal.headers or {}).items()]
        await exchange.respond(refusal.status_code, [_JSON, *extra], orjson.dumps(refusal.body()))


async def _read(connection: Connection, idle_s: float) -> bytes:
    async with asyncio.timeout(idle_s):
        return await connection.read()


def _kept(headers: Headers) -> Headers:
    """The upstream's headers that concern the client."""
    kept = (b"content-type", b"retry-after", b"cache-control")
    return [(name, value) for name, value in headers if name in kept]


def _find(headers: Headers, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def _json_or_none(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
