"""A model request from its first byte to its last: the steps of the request path, in order."""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable
from itertools import count

import orjson

from capstan.common.context import REQUEST_ID_HEADER, accept_request_id
from capstan.common.health import Lifecycle
from capstan.gateway.api import error_event, error_object
from capstan.gateway.auth import Authenticator, Principal
from capstan.gateway.config import Model
from capstan.gateway.dispatch import Dispatcher, Job
from capstan.gateway.exchange import Exchange
from capstan.gateway.metering import Metering
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.pool import PoolState
from capstan.gateway.prices import cost_of
from capstan.gateway.quota import Quota, Reservation
from capstan.gateway.record import Record
from capstan.gateway.request import ParsedRequest, TokenEstimate, parse
from capstan.gateway.routing import Router
from capstan.gateway.tap import Usage
from capstan.gateway.tracing import Trace, Tracing

log = logging.getLogger("capstan.gateway")

_REQUEST_ID = REQUEST_ID_HEADER.encode()
_FORWARDED = (b"anthropic-version", b"anthropic-beta")
"""The client's headers that change what a model's server does; an OpenAI client has none."""
_OWN_ID = f"req-{secrets.token_hex(12)}"
_serial = count(1)
_MAX_WAIT = b"x-capstan-max-wait-ms"
_JSON = b"content-type: application/json\r\n"
_INSTRUCTIONS = ("system", "developer")
_BROKEN_OFF = frozenset({Outcome.CLIENT_CLOSED, Outcome.UPSTREAM_DIED, Outcome.UPSTREAM_TIMEOUT})


class ModelEndpoint:
    """Serves the model routes. Everything it needs is handed in; `now` is monotonic, in seconds."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        quota: Quota,
        router: Router,
        dispatcher: Dispatcher,
        metering: Metering,
        tracing: Tracing,
        lifecycle: Lifecycle,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticator = authenticator
        self._quota = quota
        self._router = router
        self._dispatcher = dispatcher
        self._metering = metering
        self._tracing = tracing
        self._lifecycle = lifecycle
        self._now = now
        self._estimates: dict[str, TokenEstimate] = {}
        self.active = 0
        """Requests under way."""

    async def __call__(self, exchange: Exchange) -> None:
        """Serve one request; whatever happens, it is answered, settled and metered once."""
        self.active += 1
        record = Record("", exchange.arrived)
        trace: Trace | None = None
        try:
            headers = dict(exchange.headers)
            self._identify(exchange, record, headers.get(_REQUEST_ID))
            trace = self._tracing.begin(exchange, record, headers)
            await self._serve(exchange, record, headers, trace)
        except Refusal as refusal:
            self._refuse(exchange, record, refusal)
        except asyncio.CancelledError:
            self._cancelled(exchange, record)
        except Exception:
            log.exception("unhandled error", extra=record.ids())
            message = "internal error; the log has it under this request id"
            self._refuse(exchange, record, Refusal(Outcome.INTERNAL_ERROR, message))
        finally:
            self.active -= 1
            ended = self._now()
            self._metering.finish(record, ended)
            if trace is not None:
                trace.finish(record, ended)

    async def _serve(
        self, exchange: Exchange, record: Record, headers: dict[bytes, bytes], trace: Trace | None
    ) -> None:
        if exchange.gone:
            raise asyncio.CancelledError
        if exchange.problem is not None:
            raise exchange.problem
        principal = self._authenticator.authenticate(headers)
        record.tenant = principal.tenant
        request = parse(exchange.api, exchange.body)
        record.stream = request.stream
        name, model, pool = self._model(principal, request)
        record.model = request.model
        if self._lifecycle.refusing and not principal.internal:
            raise Refusal(Outcome.DRAINING, "this gateway is shutting down; send the request again", retry_after=1)
        deadline = _deadline(headers, exchange.arrived)
        prompt = self._estimate(name).prompt(request.size)
        limit = model.default_output_tokens if request.output_tokens is None else request.output_tokens
        output = limit * request.answers
        tokens = cost = 0
        record.metered = pool.config.counts_tokens
        if record.metered:
            tokens = prompt + output
            cost = cost_of(model.price, Usage(prompt, output), 0.0)
        counted = not principal.internal
        reservation = await self._quota.reserve(principal.tenant, principal.limits, tokens, cost, counted=counted)
        job = Job(
            exchange,
            record,
            principal,
            request,
            prompt_tokens=prompt,
            output_tokens=output,
            deadline=deadline,
            headers=self._upstream_headers(exchange, headers, trace),
            trace=trace,
        )
        exchange.lines += _limit_lines(principal, reservation)
        try:
            if model.fallback:
                await self._dispatcher.run(job, name, model)
            else:
                await self._dispatcher.serve(job, name, model)
        except asyncio.CancelledError:
            record.outcome = Outcome.CLIENT_CLOSED
            raise
        except Refusal as refusal:
            record.outcome = refusal.outcome
            raise
        finally:
            self._settle(job, reservation)

    @staticmethod
    def _identify(exchange: Exchange, record: Record, given: bytes | None) -> None:
        """Give the request its id: the client's, if it is a sane one."""
        if given is None:
            record.request_id = f"{_OWN_ID}{next(_serial):08x}"
        else:
            record.request_id = accept_request_id(given.decode("latin-1"))
        exchange.lines = b"x-request-id: %b\r\n" % record.request_id.encode()

    def _upstream_headers(self, exchange: Exchange, headers: dict[bytes, bytes], trace: Trace | None) -> bytes:
        """Header lines for the upstream: few of the client's, and none of its secrets."""
        lines = _JSON + exchange.lines
        if exchange.api.dialect == "anthropic":
            for name in _FORWARDED:
                if (value := headers.get(name)) is not None:
                    lines += b"%b: %b\r\n" % (name, value)
        return lines if trace is not None else lines + self._tracing.outgoing(headers)

    def _model(self, principal: Principal, request: ParsedRequest) -> tuple[str, Model, PoolState]:
        """The model that serves the request, the one named or its arm of a split, and its pool. Raises `Refusal`."""
        name = request.model
        model = self._router.find(name)
        if not principal.internal and not principal.may_use(name):
            raise Refusal(Outcome.MODEL_NOT_ALLOWED, f"this key may not use the model {name!r}", param="model")
        if model.split:
            name, model = self._router.resolve(name, _conversation(principal, request))
        assert model.pool is not None
        return name, model, self._router.pools[model.pool]

    def _settle(self, job: Job, reservation: Reservation) -> None:
        record = job.record
        tokens = 0
        self._account(job, record)
        if record.metered and record.usage is not None:
            tokens = record.usage.total
            if record.price is not None:
                record.cost = cost_of(record.price, record.usage, record.upstream_share_s)
        self._quota.settle(reservation, tokens, record.cost)

    def _account(self, job: Job, record: Record) -> None:
        """Fill in what was used: as the upstream says, or where it could not say, by what is known of the model."""
        tap, estimate = job.tap, self._estimate(record.served)
        if record.usage is None and tap is not None:
            record.usage = tap.usage
        usage = record.usage
        if usage is not None:
            estimate.learn_prompt(job.request.size, usage.prompt)
            if record.whole and usage.completion:
                estimate.learn_pace(usage.completion, record.first_byte - record.sent)
        elif tap is not None and tap.events:  # broken off: the prompt was read, and an event is about a token
            record.usage = Usage(job.prompt_tokens, tap.events)
        elif record.sent and record.outcome in _BROKEN_OFF:  # perhaps most of an answer that nobody saw
            unseen = 0 if job.request.stream else estimate.written(self._now() - record.sent)
            record.usage = Usage(job.prompt_tokens, min(unseen, job.output_tokens))
        elif record.outcome is Outcome.COMPLETED:  # an upstream that does not tell
            record.usage = Usage(job.prompt_tokens, job.output_tokens)

    def _estimate(self, model: str) -> TokenEstimate:
        found = self._estimates.get(model)
        if found is None:
            found = self._estimates[model] = TokenEstimate()
        return found

    def _cancelled(self, exchange: Exchange, record: Record) -> None:
        """The client has left, or the gateway stops and cannot wait any longer."""
        if exchange.gone:
            record.outcome = Outcome.CLIENT_CLOSED
        else:
            self._refuse(
                exchange, record, Refusal(Outcome.DRAINING, "the gateway stopped before the answer was complete")
            )

    @staticmethod
    def _refuse(exchange: Exchange, record: Record, refusal: Refusal) -> None:
        record.outcome = refusal.outcome
        api = exchange.api
        if exchange.started:  # too late for a status: say it as the stream's last event
            exchange.send(error_event(api, refusal.detail, refusal.code))
            exchange.end()
            return
        record.status = refusal.status_code
        lines = b"".join([b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in (refusal.headers or {}).items()])
        body = error_object(api, refusal.detail, refusal.type, refusal.code, refusal.param)
        exchange.respond(refusal.status_code, _JSON + lines, orjson.dumps(body))


def _deadline(headers: dict[bytes, bytes], arrived: float) -> float:
    """Latest time of dispatch that the client accepts. Raises `Refusal`."""
    given = headers.get(_MAX_WAIT)
    if given is None:
        return math.inf
    try:
        milliseconds = float(given)
    except ValueError:
        milliseconds = -1.0
    if not 0 <= milliseconds < 1e9:
        raise Refusal(Outcome.INVALID_REQUEST, "x-capstan-max-wait-ms must be a number of milliseconds")
    return arrived + milliseconds / 1e3


def _conversation(principal: Principal, request: ParsedRequest) -> str:
    """What stays on one arm of a split: the named user, or the conversation by what its user said first."""
    fields = request.fields
    said = fields.get("user") or fields.get(request.api.prompt)
    if isinstance(said, list):
        said = next((m for m in said if not isinstance(m, dict) or m.get("role") not in _INSTRUCTIONS), said)
    try:
        return f"{principal.tenant}\0{said}"
    except RecursionError:  # lists in lists in lists
        return principal.tenant


def _limit_lines(principal: Principal, reservation: Reservation) -> bytes:
    limits = principal.limits
    return (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %dms\r\n"
        b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %dms\r\n"
    ) % (
        limits.requests_per_minute,
        reservation.remaining_requests,
        reservation.reset_requests_s * 1e3,
        limits.tokens_per_minute,
        reservation.remaining_tokens,
        reservation.reset_tokens_s * 1e3,
    )
