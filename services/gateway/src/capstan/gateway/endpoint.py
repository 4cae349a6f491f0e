"""A model request from its first byte to its last: the hot path, as a raw ASGI application."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from starlette.types import Receive, Scope, Send

from capstan.common.context import accept_request_id
from capstan.common.disconnect import ClientGone, until_disconnect
from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.common.middleware import too_large
from capstan.gateway.auth import Authenticator, Principal
from capstan.gateway.exchange import REQUEST_ID, Exchange, Headers
from capstan.gateway.metering import Metering, Record
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.quota import MemoryQuota
from capstan.gateway.relay import error_event, relay
from capstan.gateway.request import ParsedRequest, parse
from capstan.gateway.routing import PoolState, Router
from capstan.gateway.tap import Usage
from capstan.gateway.tracing import request_span

log = logging.getLogger("capstan.gateway")

PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})

_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_FORWARDED = frozenset({b"accept", b"user-agent", b"traceparent", b"tracestate"})


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
        record = Record(accept_request_id(_find(scope["headers"], REQUEST_ID)), loop.time())
        exchange = Exchange(scope, receive, send, record)
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

    async def _serve(self, exchange: Exchange) -> None:
        record = exchange.record
        principal = self._authenticator.authenticate(exchange.scope["headers"])
        record.tenant = principal.tenant
        request = parse(await self._read_body(exchange))
        model, pool = self._router.find(request.model)
        record.model, record.stream = request.model, request.stream
        if not principal.internal and not principal.may_use(request.model):
            message = f"this key may not use the model {request.model!r}"
            raise Refusal(Outcome.MODEL_NOT_ALLOWED, message, param="model")
        record.metered = not pool.config.internal
        tokens = request.reserve(model.default_output_tokens) if record.metered else 0
        with request_span(exchange.scope, record), self._reserved(exchange, principal, request, tokens):
            await until_disconnect(exchange.receive, self._admit_and_relay(exchange, principal, request, pool))

    @contextmanager
    def _reserved(
        self, exchange: Exchange, principal: Principal, request: ParsedRequest, tokens: int
    ) -> Iterator[None]:
        """Hold the tenant's quota while the request runs, then settle it to what was really used."""
        counts = not principal.internal
        reservation = self._quota.reserve(principal.tenant, principal.limits, tokens, count_request=counts)
        exchange.limit_headers = self._limit_headers(principal)
        record, aborted = exchange.record, False
        try:
            yield
        except ClientGone:
            aborted = record.dispatched
            raise
        except Refusal as refusal:
            aborted = refusal.outcome in (Outcome.UPSTREAM_DIED, Outcome.UPSTREAM_TIMEOUT)
            raise
        finally:
            tap = exchange.tap
            if record.usage is None and tap is not None:
                record.usage = tap.usage
            if record.usage is None and (aborted or (tap is not None and tap.events)):
                # Broken off before its usage came: the prompt was read, and an event is about a token.
                record.usage = Usage(request.prompt_tokens, tap.events if tap else 0)
            used = record.usage.total if record.usage and record.metered else 0
            self._quota.settle(reservation, used, count_request=counts)

    async def _admit_and_relay(
        self, exchange: Exchange, principal: Principal, request: ParsedRequest, pool: PoolState
    ) -> None:
        loop = asyncio.get_running_loop()
        queued = loop.time()
        async with pool.admission.slot(principal.tenant):
            exchange.record.queued_s = loop.time() - queued
            headers = self._upstream_headers(exchange, principal, pool)
            exchange.record.dispatched = True
            async with pool.dispatch(exchange.scope["path"], headers, request.body) as connection:
                await relay(exchange, request, connection, pool.config.idle_timeout_s)

    async def _read_body(self, exchange: Exchange) -> bytes:
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

    def _upstream_headers(self, exchange: Exchange, principal: Principal, pool: PoolState) -> Headers:
        headers = [pair for pair in exchange.scope["headers"] if pair[0] in _FORWARDED]
        headers += [_JSON, (REQUEST_ID, exchange.record.request_id.encode())]
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
    async def _refuse(exchange: Exchange, refusal: Refusal) -> None:
        exchange.record.outcome = refusal.outcome
        if exchange.started:  # too late for a status: say it as the stream's last event
            event = error_event(refusal.detail, refusal.code)
            await exchange.send({"type": "http.response.body", "body": event})
            return
        extra = [(k.encode(), v.encode()) for k, v in (refusal.headers or {}).items()]
        await exchange.respond(refusal.status_code, [_JSON, *extra], orjson.dumps(refusal.body()))


def _find(headers: Headers, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)
