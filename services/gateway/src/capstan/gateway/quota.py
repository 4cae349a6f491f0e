"""Per-tenant quotas: requests and tokens per minute by GCRA, running requests by count, spending by month.

GCRA (ITU-T I.371) keeps one timestamp, the theoretical arrival time (TAT), instead of windows with edges
that double the limit. Here the cost varies: n tokens move it by n x 60 / limit seconds, and it may lie at
most a minute ahead. Each limit has its own.

A request reserves what it may use and settles once what it did use, which moves the TAT by the difference.
So the tokens used by the time t, counted from the tenant's first request, are at most limit x (1 + t / 60)
while no request uses more than it reserved; what one uses beyond that is a debt that later ones wait for.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Outcome, Refusal

MINUTE = 60.0
TOLERANCE = 1e-6
"""Seconds by which rounding may pass a limit."""


@dataclass(slots=True)
class Reservation:
    """What one request holds until it is settled, exactly once."""

    id: str
    tenant: str
    tokens: int
    """Reserved; at most a whole minute's, so that no request is refused for ever over an estimate."""
    cost: int
    """Reserved, micro-dollars."""
    counted: bool
    """Whether it took a request and a running place; inner calls of a counted request do not."""
    interval: float
    """Seconds that one token takes of the quota, at the limit of the time of reserving."""
    owner: "Quota"
    """The store that holds it."""
    settled: bool = False
    remaining_requests: int = 0
    reset_requests_s: float = 0.0
    """Until the quota of requests is full again."""
    remaining_tokens: int = 0
    reset_tokens_s: float = 0.0


class Quota(Protocol):
    """Where quotas are kept."""

    async def start(self) -> None:
        """Make the store usable; call it once, before all else."""
        ...

    async def reserve(self, tenant: str, limits: Tenant, tokens: int, cost: int, *, counted: bool) -> Reservation:
        """Take a request and a running place (if `counted`), `tokens`, and `cost` micro-dollars: all or nothing.

        Raises `Refusal` with one of the outcomes `*_QUOTA` and `BUDGET`, and the time to wait.
        """
        ...

    def settle(self, reservation: Reservation, tokens: int, cost: int) -> None:
        """Replace what was reserved by what was used. Never waits; a second call changes nothing."""
        ...

    async def spent(self, tenant: str) -> int:
        """Micro-dollars settled in this calendar month (UTC)."""
        ...

    async def close(self) -> None:
        """Release what the store holds outside this process."""
        ...


class Calendar:
    """The UTC month of a wall clock, for one comparison a call. A clock set back does not bring a month back."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._month = ""
        self._end = -math.inf

    def month(self) -> str:
        """Such as `2026-11`; sorts by time."""
        now = self._wall()
        if now >= self._end:
            day = datetime.fromtimestamp(now, UTC)
            self._month = f"{day:%Y-%m}"
            following = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
            self._end = datetime(*following, 1, tzinfo=UTC).timestamp()
        return self._month

    def left(self) -> float:
        """Seconds until the next month."""
        self.month()
        return self._end - self._wall()


@dataclass(frozen=True, slots=True)
class _Part:
    """One of so many equal parts of a tenant's limits; each lets something through."""

    requests_per_minute: float
    tokens_per_minute: float
    concurrent: float
    budget: float
    """Micro-dollars a month."""

    @staticmethod
    def of(limits: Tenant, share: int) -> "_Part":
        usd = limits.monthly_budget_usd
        return _Part(
            max(1.0, limits.requests_per_minute / share),
            max(1.0, limits.tokens_per_minute / share),
            max(1.0, limits.max_concurrent / share),
            math.inf if usd is None else usd * 1e6 / share,
        )


@dataclass(slots=True)
class _State:
    """One tenant's quotas. TATs are seconds on the store's clock."""

    limits: Tenant | None = None
    part: _Part | None = None
    """Of `limits`."""
    requests: float = -math.inf
    tokens: float = -math.inf
    running: int = 0
    held: int = 0
    """Micro-dollars reserved and not settled."""
    month: str = ""
    spent: int = 0
    """Micro-dollars settled in `month`."""


class MemoryQuota:
    """Quotas of this process. `now` is any monotonic clock in seconds, `wall` is Unix time.

    `share`: one of how many equal parts of every limit is this process's.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time, *, share: int = 1
    ) -> None:
        self._now = now
        self._calendar = Calendar(wall)
        self._share = share
        self._states: dict[str, _State] = {}
        self._ids = count(1)

    async def reserve(self, tenant: str, limits: Tenant, tokens: int, cost: int, *, counted: bool) -> Reservation:
        """See `Quota.reserve`."""
        return self.take(tenant, limits, tokens, cost, counted=counted)

    def take(self, tenant: str, limits: Tenant, tokens: int, cost: int, *, counted: bool) -> Reservation:
        """`reserve`, which has nothing to wait for here."""
        state = self._state(tenant)
        part = state.part
        if part is None or state.limits is not limits:
            state.limits = limits
            part = state.part = _Part.of(limits, self._share)
        now = self._now()
        latest = now + MINUTE + TOLERANCE
        tokens = min(tokens, int(part.tokens_per_minute))
        interval = MINUTE / part.tokens_per_minute

        requests_tat = max(state.requests, now)
        tokens_tat = max(state.tokens, now) + tokens * interval
        if counted:
            requests_tat += MINUTE / part.requests_per_minute
            if state.running + 1 > part.concurrent:
                raise refusal(Outcome.CONCURRENCY_QUOTA, limits, 1.0)
            if requests_tat > latest:
                raise refusal(Outcome.REQUEST_QUOTA, limits, requests_tat - now - MINUTE)
        if tokens_tat > latest:
            raise refusal(Outcome.TOKEN_QUOTA, limits, tokens_tat - now - MINUTE)
        if state.spent + state.held + cost > part.budget:
            only_held = state.spent + cost <= part.budget
            raise refusal(Outcome.BUDGET, limits, 1.0 if only_held else self._calendar.left())

        state.requests = requests_tat
        state.tokens = tokens_tat
        state.running += counted
        state.held += cost
        return Reservation(
            str(next(self._ids)), tenant, tokens, cost, counted, interval, self, False,
            remaining(requests_tat - now, part.requests_per_minute), requests_tat - now,
            remaining(tokens_tat - now, part.tokens_per_minute), tokens_tat - now,
        )  # fmt: skip

    def settle(self, reservation: Reservation, tokens: int, cost: int) -> None:
        """See `Quota.settle`."""
        if reservation.settled:
            return
        reservation.settled = True
        state = self._state(reservation.tenant)
        state.tokens += (tokens - reservation.tokens) * reservation.interval
        state.running -= reservation.counted
        state.held -= reservation.cost
        state.spent += cost

    async def spent(self, tenant: str) -> int:
        """See `Quota.spent`."""
        return self._state(tenant).spent

    def resume(self, tenant: str, requests_tat: float, tokens_tat: float, spent: int) -> None:
        """Go on from what is known from elsewhere: TATs on this clock, micro-dollars spent this month."""
        state = self._state(tenant)
        state.requests = max(state.requests, requests_tat)
        state.tokens = max(state.tokens, tokens_tat)
        state.spent = spent

    def set_spent(self, tenant: str, cost: int) -> None:
        """Set this month's spending, known from a ledger, in micro-dollars."""
        self._state(tenant).spent = cost

    async def start(self) -> None:
        """There is nothing to prepare."""

    async def close(self) -> None:
        """There is nothing to release."""

    def _state(self, tenant: str) -> _State:
        state = self._states.get(tenant)
        if state is None:
            state = self._states[tenant] = _State()
        month = self._calendar.month()
        if state.month != month:
            state.month = month
            state.spent = 0
        return state


def remaining(ahead: float, per_minute: float) -> int:
    """What a quota still grants when its TAT lies `ahead` seconds in the future."""
    return max(0, int((MINUTE - ahead + TOLERANCE) * per_minute / MINUTE))


def refusal(outcome: Outcome, limits: Tenant, wait: float) -> Refusal:
    """The answer to a request that a quota has no room for; `wait` in seconds."""
    if outcome is Outcome.CONCURRENCY_QUOTA:
        text = f"as many of the tenant's requests are running as may ({limits.max_concurrent}); wait for one to end"
    elif outcome is Outcome.REQUEST_QUOTA:
        text = f"the tenant's quota of {limits.requests_per_minute} requests per minute is used up"
    elif outcome is Outcome.TOKEN_QUOTA:
        text = f"the tenant's quota of {limits.tokens_per_minute} tokens per minute is used up"
    else:
        text = f"the tenant's budget of ${limits.monthly_budget_usd:g} for this month does not cover this request"
    return Refusal(outcome, text, retry_after=wait)
