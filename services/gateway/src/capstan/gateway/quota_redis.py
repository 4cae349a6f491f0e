"""Quotas that replicas share through Redis, with local ones for as long as Redis cannot be used.

Each operation is one run of `quota.lua`. A reservation has a lease that its replica renews, so what a
crashed replica held comes back. Settlements that Redis has not confirmed are sent again on the next connection;
each counts once, because Redis knows which reservations are not settled yet.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import hiredis
from prometheus_client import CollectorRegistry, Counter, Gauge

from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Outcome
from capstan.gateway.quota import MINUTE, Calendar, MemoryQuota, Reservation, refusal, remaining
from capstan.gateway.redis_pipe import Command, ConnectionLost, RedisPipe

log = logging.getLogger("capstan.gateway.quota")

_SCRIPT = Path(__file__).with_name("quota.lua").read_text()
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_REFUSED = {1: Outcome.CONCURRENCY_QUOTA, 2: Outcome.REQUEST_QUOTA, 3: Outcome.TOKEN_QUOTA, 4: Outcome.BUDGET}
_RENEWED_AT_ONCE = 1000
_UNCONFIRMED = 65_536


@dataclass(slots=True)
class _Seen:
    """What Redis last said about a tenant; local quotas go on from there."""

    requests: float
    """Where its TAT of requests lies on the local clock, seconds."""
    tokens: float
    month: str
    spent: int
    """Micro-dollars of `month`, with what was held."""


@dataclass(slots=True)
class _Owed:
    """What was used locally and Redis has not been told: seconds of the TATs, micro-dollars."""

    since: float
    """When the first of it was used, on the local clock."""
    requests: float = 0.0
    tokens: float = 0.0
    cost: int = 0


class RedisQuota:
    """Quotas in Redis. Without it, each of `replicas` gateways grants its part of every limit by itself.

    `timeout_s`: longest wait for a reply, after which the connection is given up. `lease_s`: time after which
    what a dead replica held comes back. `clock`: for tests, the time in seconds in place of Redis's own.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        replicas: int,
        registry: CollectorRegistry,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] | None = None,
        lease_s: float = 60.0,
    ) -> None:
        self._now = now
        self._clock = clock
        self._calendar = Calendar(wall)
        self._lease_s = lease_s
        self._replicas = replicas
        self._local = MemoryQuota(now, wall, share=replicas)
        self._ids = count(1)
        self._replica = secrets.token_hex(8)
        self._heads: dict[str, Command] = {}
        self._seen: dict[str, _Seen] = {}
        self._live: dict[str, Reservation] = {}
        self._unconfirmed: dict[str, Command] = {}
        self._owed: dict[tuple[str, str], _Owed] = {}
        """By tenant and month."""
        self._is_local = False
        self._renewer: asyncio.Task[None] | None = None
        self._observe(registry)
        self._pipe = RedisPipe(
            url,
            timeout_s=timeout_s,
            # A trial write: a full Redis or a read-only replica would refuse it, and is of no use.
            hello=[("SCRIPT", "LOAD", _SCRIPT), ("SET", "capstan:quota:hello", self._replica, "EX", 60)],
            ready=self._ready,
            lost=self._lost,
        )

    def _observe(self, registry: CollectorRegistry) -> None:
        self._fallback = Gauge(
            "capstan_gateway_quota_fallback",
            "1 while quotas are local because Redis cannot be used.",
            registry=registry,
        )
        self._fallbacks = Counter(
            "capstan_gateway_quota_fallbacks_total", "Changes from shared to local quotas.", registry=registry
        )
        self._forgotten = Counter(
            "capstan_gateway_quota_forgotten_settlements_total",
            "Settlements that Redis did not take; their requests stay charged with what they reserved.",
            registry=registry,
        )

    async def start(self) -> None:
        """Connect. Without Redis quotas are local until it can be reached."""
        await self._pipe.start()
        self._renewer = asyncio.create_task(self._renew_regularly(), name="quota-renewal")

    async def reserve(self, tenant: str, limits: Tenant, tokens: int, cost: int, *, counted: bool) -> Reservation:
        """See `Quota.reserve`."""
        if not self._pipe.ready:
            return self._take_locally(tenant, limits, tokens, cost, counted=counted)
        limit = limits.tokens_per_minute
        reservation = Reservation(
            f"{self._replica}:{next(self._ids)}:{counted:d}:{cost}",
            tenant, min(tokens, limit), cost, counted, MINUTE / limit, self,
        )  # fmt: skip
        answer = asyncio.get_running_loop().create_future()
        self._pipe.send(self._reserve_command(reservation, limits), partial(_resolve, answer))
        try:
            reply = await answer
        except asyncio.CancelledError:
            self.settle(reservation, 0, 0)  # runs after the reservation, on the same connection or the next
            raise
        if isinstance(reply, list):
            return self._reserved(reservation, limits, reply)
        if isinstance(reply, hiredis.ReplyError):
            self._pipe.drop(str(reply))
        else:
            self.settle(reservation, 0, 0)
        return self._take_locally(tenant, limits, tokens, cost, counted=counted)

    def _take_locally(self, tenant: str, limits: Tenant, tokens: int, cost: int, *, counted: bool) -> Reservation:
        reservation = self._local.take(tenant, limits, tokens, cost, counted=counted)
        if counted:
            self._owing(tenant).requests += MINUTE / limits.requests_per_minute
        return reservation

    def settle(self, reservation: Reservation, tokens: int, cost: int) -> None:
        """See `Quota.settle`."""
        if reservation.owner is self._local:
            if not reservation.settled:
                self._local.settle(reservation, tokens, cost)
                owed = self._owing(reservation.tenant)
                owed.tokens += tokens * reservation.interval / self._replicas
                owed.cost += cost
                if self._pipe.ready:
                    self._report()
            return
        if reservation.settled:
            return
        reservation.settled = True
        self._live.pop(reservation.id, None)
        delay = (tokens - reservation.tokens) * reservation.interval
        self._deliver(reservation.id, self._command(reservation.tenant, "settle", reservation.id, repr(delay), cost))

    async def spent(self, tenant: str) -> int:
        """See `Quota.spent`. Without Redis, as far as this replica knows."""
        if self._pipe.ready:
            answer = asyncio.get_running_loop().create_future()
            self._pipe.send(("HMGET", self._head(tenant)[3], "month", "spent"), partial(_resolve, answer))
            reply = await answer
            if isinstance(reply, list):
                month, spent = reply
                return int(spent) if month and month.decode() == self._calendar.month() else 0
        month = self._calendar.month()
        seen = self._seen.get(tenant)
        owed = self._owed.get((tenant, month))
        return (seen.spent if seen and seen.month == month else 0) + (owed.cost if owed else 0)

    async def close(self) -> None:
        """Give Redis a moment to confirm what was settled, then close the connection."""
        if self._renewer is not None:
            self._renewer.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewer
        if self._unconfirmed and self._pipe.ready:
            answer = asyncio.get_running_loop().create_future()
            self._pipe.send(("PING",), partial(_resolve, answer))  # replies come in order
            await answer
        await self._pipe.close()

    # -- commands

    def _head(self, tenant: str) -> Command:
        head = self._heads.get(tenant)
        if head is None:
            key = f"capstan:quota:{{{tenant}}}"
            head = self._heads[tenant] = ("EVALSHA", _SHA, 3, key, f"{key}:leases", f"{key}:past")
        return head

    def _command(self, tenant: str, operation: str, *arguments: str | int | float) -> Command:
        now = "" if self._clock is None else repr(self._clock())
        return (*self._head(tenant), operation, now, self._calendar.month(), *arguments)

    def _reserve_command(self, reservation: Reservation, limits: Tenant) -> Command:
        budget = "" if limits.monthly_budget_usd is None else repr(limits.monthly_budget_usd * 1e6)
        return self._command(
            reservation.tenant, "reserve", reservation.id, self._lease_s, limits.requests_per_minute,
            limits.tokens_per_minute, limits.max_concurrent, budget, reservation.tokens,
        )  # fmt: skip

    def _reserved(self, reservation: Reservation, limits: Tenant, reply: list[Any]) -> Reservation:
        if reply[0]:
            reservation.settled = True
            wait = float(reply[1]) if reply[1] else self._calendar.left()
            raise refusal(_REFUSED[reply[0]], limits, wait)
        _, requests, tokens, spent, held, month = reply
        self._live[reservation.id] = reservation
        reservation.reset_requests_s = requests = float(requests)
        reservation.remaining_requests = remaining(requests, limits.requests_per_minute)
        reservation.reset_tokens_s = tokens = float(tokens)
        reservation.remaining_tokens = remaining(tokens, limits.tokens_per_minute)
        now = self._now()
        self._seen[reservation.tenant] = _Seen(now + requests, now + tokens, month.decode(), spent + held)
        return reservation

    # -- what must arrive, once

    def _deliver(self, name: str, command: Command) -> None:
        """Send now or on the next connection, again until Redis has confirmed it."""
        if len(self._unconfirmed) >= _UNCONFIRMED:
            del self._unconfirmed[next(iter(self._unconfirmed))]
            self._forgotten.inc()
        self._unconfirmed[name] = command
        if self._pipe.ready:
            self._pipe.send(command, partial(self._delivered, name))

    def _delivered(self, name: str, reply: Any) -> None:
        if isinstance(reply, ConnectionLost):
            return
        if isinstance(reply, hiredis.ReplyError):
            if not str(reply).startswith("NOSCRIPT"):  # else the next connection loads the script and sends it again
                self._unconfirmed.pop(name, None)
                self._forgotten.inc()
            self._pipe.drop(str(reply))
            return
        self._unconfirmed.pop(name, None)

    def _owing(self, tenant: str) -> _Owed:
        key = tenant, self._calendar.month()
        owed = self._owed.get(key)
        if owed is None:
            owed = self._owed[key] = _Owed(self._now())
        return owed

    def _report(self) -> None:
        """Charge in Redis what was used without it, so that an outage is no second quota."""
        for (tenant, month), owed in self._owed.items():
            name = f"{self._replica}:{next(self._ids)}"
            now = "" if self._clock is None else repr(self._clock())
            used = (repr(self._now() - owed.since), repr(owed.requests), repr(owed.tokens), owed.cost)
            self._deliver(name, (*self._head(tenant), "charge", now, month, name, *used))
        self._owed.clear()

    # -- the connection

    def _ready(self) -> None:
        if self._is_local:
            log.info("Redis is back: quotas are shared again")
        self._is_local = False
        self._fallback.set(0)
        self._renew()
        for name, command in self._unconfirmed.items():
            self._pipe.send(command, partial(self._delivered, name))
        self._report()

    def _lost(self, reason: str) -> None:
        log.warning("Redis cannot be used (%s): quotas are local, 1/%d of each limit", reason, self._replicas)
        self._is_local = True
        self._fallback.set(1)
        self._fallbacks.inc()
        month = self._calendar.month()
        for tenant, seen in self._seen.items():
            spent = seen.spent if seen.month == month else 0
            self._local.resume(tenant, seen.requests, seen.tokens, spent // self._replicas)

    async def _renew_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if self._pipe.ready:
                self._renew()

    def _renew(self) -> None:
        """Extend the leases of everything that runs."""
        by_tenant: defaultdict[str, list[str]] = defaultdict(list)
        for reservation in self._live.values():
            by_tenant[reservation.tenant].append(reservation.id)
        for tenant, ids in by_tenant.items():
            for start in range(0, len(ids), _RENEWED_AT_ONCE):
                some = ids[start : start + _RENEWED_AT_ONCE]
                self._pipe.send(self._command(tenant, "renew", self._lease_s, *some), _ignore)


def _resolve(answer: "asyncio.Future[Any]", reply: Any) -> None:
    if not answer.done():
        answer.set_result(reply)


def _ignore(reply: Any) -> None:
    """A renewal that failed is made up for by the next."""
