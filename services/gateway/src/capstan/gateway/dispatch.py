"""From the quota to the end of the answer: a place in the pool, a worker, one more try, fallback models."""

import time
from collections.abc import Callable

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.gateway.admission import Ticket
from capstan.gateway.auth import Principal
from capstan.gateway.config import Model
from capstan.gateway.exchange import Exchange
from capstan.gateway.fair_queue import cost
from capstan.gateway.member import Member
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.pool import PoolState
from capstan.gateway.prefix import blocks
from capstan.gateway.record import Record
from capstan.gateway.relay import relay_stream, relay_whole
from capstan.gateway.request import ParsedRequest
from capstan.gateway.routing import Router
from capstan.gateway.tap import StreamTap
from capstan.gateway.tracing import Trace, Tracing
from capstan.gateway.upstream_connection import Connection, Silent, Unreachable, UpstreamError

_RETRIED = frozenset({502, 503, 504})
"""Statuses with which an upstream says that it cannot serve now; another one may."""

_FALLS_BACK = frozenset(
    {
        Outcome.QUEUE_FULL,
        Outcome.QUEUE_TIMEOUT,
        Outcome.NO_UPSTREAM,
        Outcome.UPSTREAM_DIED,
        Outcome.UPSTREAM_TIMEOUT,
        Outcome.UPSTREAM_ERROR,
    }
)
_IDENTITY = IDENTITY_HEADER.encode()


class Job:
    """One request on its way: what the endpoint has found out about it. Times are monotonic, in seconds."""

    tap: StreamTap | None = None
    """Of the stream that was relayed last."""
    replaceable: bool = False
    """Whether another model answers if this one cannot."""

    def __init__(
        self,
        exchange: Exchange,
        record: Record,
        principal: Principal,
        request: ParsedRequest,
        *,
        prompt_tokens: int,
        output_tokens: int,
        deadline: float,
        headers: bytes,
        trace: Trace | None,
    ) -> None:
        """`deadline`: latest dispatch that the client accepts. `headers`: lines for the upstream."""
        self.exchange = exchange
        self.record = record
        self.principal = principal
        self.request = request
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.deadline = deadline
        self.headers = headers
        self.trace = trace


class _Unwilling(UpstreamError):
    """The upstream is there and says that it cannot take the request."""


class Dispatcher:
    """Takes requests through admission to an upstream and back."""

    def __init__(
        self, router: Router, signer: Signer, tracing: Tracing, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._router = router
        self._signer = signer
        self._tracing = tracing
        self._now = now

    async def run(self, job: Job, name: str, model: Model) -> None:
        """Serve the request by its model or, where that cannot, by one of its fallbacks. Raises `Refusal`."""
        fallbacks = list(model.fallback)
        while True:
            job.replaceable = bool(fallbacks)
            try:
                await self.serve(job, name, model)
            except Refusal as refusal:
                known = self._router.models  # a reload may have removed some
                fallbacks = [other for other in fallbacks if other in known]
                if not fallbacks or job.exchange.started or refusal.outcome not in _FALLS_BACK:
                    raise
            else:
                return
            name = fallbacks.pop(0)
            model = known[name]

    async def serve(self, job: Job, name: str, model: Model) -> None:
        """Serve the request by this model: wait for a place, then try an upstream, and perhaps one more."""
        pool = self._router.pools.get(model.pool or "")
        if pool is None:
            raise Refusal(Outcome.NO_UPSTREAM, f"the model {name!r} was just removed", retry_after=1)
        if job.principal.internal and pool.config.internal:
            message = f"the model {name!r} is a Capstan service and cannot be called by one: it would wait for itself"
            raise Refusal(Outcome.MODEL_NOT_ALLOWED, message, param="model")
        gate, record, principal, now = pool.gate, job.record, job.principal, self._now
        record.served, record.price, record.metered = name, model.price, pool.config.counts_tokens
        began = now()
        expected = cost(job.prompt_tokens, job.output_tokens)
        deadline = min(job.deadline, began + pool.config.queue_timeout_s)
        ticket = Ticket(principal.tenant, principal.weight, expected, deadline, principal.internal)
        if not gate.try_enter(ticket):
            await gate.wait(ticket)
            record.admitted = now()
            record.queued_s += record.admitted - began
        try:
            await self._forward(job, name, model, pool)
        finally:
            usage = record.usage
            if usage is None and job.tap is not None:
                usage = job.tap.usage
            gate.leave(ticket, cost(usage.prompt, usage.completion) if usage is not None else None)

    async def _forward(self, job: Job, name: str, model: Model, pool: PoolState) -> None:
        request = job.request
        prompt = blocks(request.body, name) if model.routing == "prefix" and len(pool.members) > 1 else []
        body = (
            request.body
            if name == request.model and not model.upstream_model
            else request.named(model.upstream_model or name)
        )
        member = pool.pick(prompt, exclude=None, model=name, routing=model.routing)
        if member is None:
            raise Refusal(Outcome.NO_UPSTREAM, f"pool {pool.name!r} has no upstream yet", retry_after=5)
        try:
            await self._try(job, name, model, pool, member, body, prompt, last=False)
        except UpstreamError as error:
            other = self._another(pool, member, prompt, name, model, error)
            if other is None:
                raise _failed(error, member) from None
            job.record.retried = True
            try:
                await self._try(job, name, model, pool, other, body, prompt, last=True)
            except UpstreamError as second:
                raise _failed(second, other) from None

    @staticmethod
    def _another(
        pool: PoolState, failed: Member, prompt: list[int], name: str, model: Model, error: UpstreamError
    ) -> Member | None:
        """Where to try once more, if anywhere: not after a time-out, as the time is gone."""
        if isinstance(error, Silent):
            return None
        other = pool.pick(prompt, exclude=failed, model=name, routing=model.routing)
        return other if other is not None and pool.retries.take() else None

    async def _try(
        self,
        job: Job,
        name: str,
        model: Model,
        pool: PoolState,
        member: Member,
        body: bytes,
        prompt: list[int],
        *,
        last: bool,
    ) -> None:
        """Send the request to one upstream and relay its answer. Raises `UpstreamError` if another may be tried."""
        record, now, upstream = job.record, self._now, member.upstream
        tokens = job.prompt_tokens + job.output_tokens
        path, limit_s = job.exchange.api.wire_path, pool.config.first_byte_timeout_s
        pool.began(member, prompt, tokens)
        try:
            if model.adapter is not None:
                await self._router.adapters.ensure(member, name, model.adapter)
            record.sent = sent = now()
            record.upstream = member.name
            headers = self._headers(job, pool, member)
            connection = await upstream.send(b"POST", path, headers, body, limit_s, sent)
            try:
                if connection.status == 404 and model.adapter is not None:
                    connection = await self._reload(job, name, model, pool, member, connection, body)
                asks_on = job.replaceable or (not last and len(pool.members) > 1)
                self._judge(pool, member, connection, asks_on=asks_on)
                await self._relay(job, pool, connection)
            finally:
                record.upstream_share_s += upstream.release(connection, now())
        except UpstreamError as error:
            if not isinstance(error, _Unwilling):
                pool.failed(member, unreachable=isinstance(error, Unreachable))
            raise
        finally:
            pool.ended(member, tokens)

    async def _relay(self, job: Job, pool: PoolState, connection: Connection) -> None:
        connection.allow_silence(pool.config.idle_timeout_s)
        exchange, request = job.exchange, job.request
        if request.stream and connection.status == 200:
            job.tap = tap = StreamTap(forward_usage=request.forward_usage, dialect=exchange.api.dialect)
            await relay_stream(exchange, job.record, connection, tap, self._now, pool.gate.first_token)
        else:
            await relay_whole(exchange, job.record, connection, self._now)

    async def _reload(
        self, job: Job, name: str, model: Model, pool: PoolState, member: Member, connection: Connection, body: bytes
    ) -> Connection:
        """The worker has restarted since the last look at it and lost its adapters: load this one again."""
        assert model.adapter is not None
        self._router.adapters.lost(member, name)
        await self._router.adapters.ensure(member, name, model.adapter)
        again = await member.upstream.send(
            b"POST",
            job.exchange.api.wire_path,
            self._headers(job, pool, member),
            body,
            pool.config.first_byte_timeout_s,
            self._now(),
        )
        member.upstream.release(connection, self._now())
        return again

    @staticmethod
    def _judge(pool: PoolState, member: Member, connection: Connection, *, asks_on: bool) -> None:
        """What the status says of the upstream. Raises `_Unwilling` where another one can be asked instead."""
        status = connection.status
        if status < 500:
            pool.succeeded(member)
        elif status in _RETRIED:
            member.health.declined()
            if asks_on:
                raise _Unwilling(f"it answered {status}")
        else:
            pool.failed(member)

    def _headers(self, job: Job, pool: PoolState, member: Member) -> bytes:
        """Header lines for one try: some differ from try to try."""
        lines = job.headers
        if job.trace is not None:
            lines += job.trace.sent(job.record, member.name)
        if pool.config.internal:
            token = self._signer.sign(Identity(job.principal.tenant, "gateway"))
            lines += b"%b: %b\r\n" % (_IDENTITY, token.encode())
        return lines


def _failed(error: UpstreamError, member: Member) -> Refusal:
    if isinstance(error, Unreachable):
        message = f"{member.name} cannot be reached ({error}); it may still be starting"
        return Refusal(Outcome.NO_UPSTREAM, message, retry_after=5)
    if isinstance(error, Silent):
        return Refusal(Outcome.UPSTREAM_TIMEOUT, f"{member.name} did not answer in time: {error}")
    if isinstance(error, _Unwilling):
        return Refusal(Outcome.UPSTREAM_ERROR, f"{member.name} cannot take the request: {error}", retry_after=1)
    return Refusal(Outcome.UPSTREAM_DIED, f"{member.name} failed before its answer began: {error}")
