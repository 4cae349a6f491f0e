"""Admission to a pool: so many run, a bounded number wait in fair order, and the hopeless are refused at once."""

import asyncio
from collections.abc import Callable

from capstan.gateway.config import Pool
from capstan.gateway.fair_queue import Account, FairQueue, Ticket
from capstan.gateway.limiter import Limiter
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.pace import Pace

__all__ = ["Gate", "Ticket"]

_HEADROOM = 0.05
_HEADROOM_FROM = 8  # places; a smaller pool has none to spare
_SOONEST_S = 0.001


class Gate:
    """The gate of one pool. Not for several threads.

    The last twentieth of the places is kept for tenants that have less than their fair share of places, so that one
    who comes to a pool that another has filled finds a place at once.
    """

    def __init__(self, name: str, pool: Pool, now: Callable[[], float]) -> None:
        self.name = name
        self.running = 0
        self._now = now
        self._max_queued = pool.max_queued
        self._queue = FairQueue()
        self._pace = Pace()
        self._limiter = Limiter(pool.max_concurrent, len(pool.urls), pool.ttft_target_s, now())
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = 0.0
        self._set_places()

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return self._queue.waiting

    @property
    def limit(self) -> float:
        """Requests that may run at once."""
        return self._limiter.limit

    def reconfigure(self, pool: Pool) -> None:
        """Take a new configuration. What runs or waits goes on."""
        self._max_queued = pool.max_queued
        self._limiter.configure(pool.max_concurrent, pool.ttft_target_s)
        self._set_places()

    def capacity(self, upstreams: int) -> None:
        """So many upstreams can take requests now."""
        self._limiter.capacity(upstreams)
        self._set_places()

    def first_token(self, seconds: float) -> None:
        """One stream took so long from its dispatch to its first byte."""
        if self._limiter.first_token(seconds, self._now(), self.running):
            self._set_places()

    def engine(self, waiting: float, kv_usage: float, upstreams: int) -> None:
        """Fresh readings of the pool's engines: requests queued in all, greatest use of KV cache (0 to 1)."""
        self.capacity(upstreams)
        if self._limiter.engine(waiting, kv_usage, self._now()):
            self._set_places()

    def try_enter(self, ticket: Ticket) -> bool:
        """Take a place if one is free and nobody is passed unfairly. Otherwise `wait`."""
        running = self.running
        if running >= self._places:
            return False
        account = self._queue.account(ticket)
        if (running >= self._open or self._queue.waiting) and not self._may_pass(account, ticket):
            return False
        self._start(account, ticket)
        return True

    async def wait(self, ticket: Ticket) -> None:
        """Wait for a place. Raises `Refusal`, at once where the wait would pass the deadline."""
        account = self._queue.account(ticket)
        self._refuse_hopeless(account, ticket)
        if not self._queue.waiting:
            self._pace.waiting_begins(self.running, self._now())
        ticket.turn = asyncio.get_running_loop().create_future()
        self._queue.push(account, ticket)
        self._sweep_by(ticket.deadline)
        self._dispatch()
        try:
            admitted = await ticket.turn
        except asyncio.CancelledError:
            if not self._queue.remove(ticket):
                self.leave(ticket, 0.0)  # a place was handed over in the very moment it gave up
            raise
        if not admitted:
            raise self._too_late("the wait was longer than predicted", self._queue.waiting + 1, late=True)

    def leave(self, ticket: Ticket, tokens: float | None) -> None:
        """The request ended, having cost `tokens` (None: not known, the estimate stands). Once; again is nothing."""
        account = ticket.account
        if account is None:
            return
        ticket.account = None
        now = self._now()
        self.running -= 1
        self._queue.end(account, ticket, tokens)
        self._pace.ended(now - ticket.started)
        if self._queue.waiting:
            self._dispatch()
        else:
            self._pace.waiting_ended()

    def _start(self, account: Account, ticket: Ticket) -> None:
        self.running += 1
        self._queue.start(account, ticket)
        ticket.account = account
        ticket.started = self._now()

    def _below_share(self, account: Account) -> bool:
        return account.running < self._queue.share(account) * self._places

    def _may_pass(self, account: Account, ticket: Ticket) -> bool:
        return self._queue.may_pass(account, ticket) and self._below_share(account)

    def _next(self) -> Account | None:
        """The tenant that gets a free place: one that asks for little and has less than its share of places, before
        the one whose turn it is; and that one only if it need not leave the headroom to others.
        """
        queue = self._queue
        for account in queue.light():
            if self._below_share(account):
                return account
        head = queue.head()
        return head if self.running < self._open or self._below_share(head) else None

    def _dispatch(self) -> None:
        """Fill the free places."""
        queue = self._queue
        while queue.waiting and self.running < self._places and (account := self._next()):
            ticket = queue.pop(account)
            turn, now = ticket.turn, self._now()
            if turn is None or turn.done():
                continue  # cancelled, and has not run since
            in_time = now <= ticket.deadline
            if in_time:
                self._start(account, ticket)
                self._pace.served(now)
            turn.set_result(in_time)

    def _refuse_hopeless(self, account: Account, ticket: Ticket) -> None:
        queue, now = self._queue, self._now()
        # Dynamic thresholds (Choudhury and Hahne, 1998): what a tenant may queue is a multiple of the room that is
        # left, so one that floods leaves room for others, and nobody who waits already has to be sent away.
        room = self._max_queued - queue.waiting
        if room <= 0 or not (ticket.nested or len(account.waiting) < 2 * ticket.weight * room):
            message = f"pool {self.name!r} is overloaded: its queue is full"
            raise Refusal(
                Outcome.QUEUE_FULL, message, retry_after=self._pace.wait(queue.waiting + 1, self.running, now)
            )
        places = queue.ahead(account, ticket) + 1
        if not ticket.nested and now + self._pace.longest(places, self.running, now) > ticket.deadline:
            raise self._too_late("the wait would be too long", places, late=False)

    def _too_late(self, why: str, places: int, *, late: bool) -> Refusal:
        self._pace.refused(late=late)
        retry_after = self._pace.wait(places, self.running, self._now())
        return Refusal(Outcome.QUEUE_TIMEOUT, f"pool {self.name!r} is overloaded: {why}", retry_after=retry_after)

    def _set_places(self) -> None:
        self._places = max(1, int(self._limiter.limit))
        headroom = max(1, round(_HEADROOM * self._places)) if self._places >= _HEADROOM_FROM else 0
        self._open = self._places - headroom
        self._dispatch()

    def _sweep_by(self, deadline: float) -> None:
        """Make sure that who is overdue gets an answer. One timer for all."""
        if self._sweep is None or deadline < self._sweep_at:
            if self._sweep is not None:
                self._sweep.cancel()
            self._sweep_at = deadline
            delay = max(_SOONEST_S, deadline - self._now())
            self._sweep = asyncio.get_running_loop().call_later(delay, self._refuse_overdue)

    def _refuse_overdue(self) -> None:
        self._sweep = None
        late, following = self._queue.overdue(self._now())
        for ticket in late:
            self._queue.remove(ticket)
            if ticket.turn is not None and not ticket.turn.done():
                ticket.turn.set_result(False)
        if self._queue.waiting:
            self._sweep_by(following)
