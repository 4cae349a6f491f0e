"""Who is next: tenants served in proportion to their weight, by tokens, with a Virtual Token Counter.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (arXiv 2401.00588).
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter

INPUT_WEIGHT = 1.0
OUTPUT_WEIGHT = 2.0
_BURST = 8  # requests by which a tenant may be ahead of the others and still pass them at an empty place
_FEW = 2  # requests that a tenant may have waiting and still pass
_FORGET_FROM = 64  # tenants


def cost(input_tokens: int, output_tokens: int) -> float:
    """What a request counts for: an output token holds the GPU about twice as long as an input token."""
    return INPUT_WEIGHT * input_tokens + OUTPUT_WEIGHT * output_tokens


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place at a gate, from its arrival to its end."""

    tenant: str
    weight: int
    """The tenant's share: high 4, normal 2, batch 1."""
    tokens: float
    """The expected `cost`, above 0."""
    deadline: float
    """On the gate's clock: the latest time at which it may still be dispatched."""
    nested: bool = False
    """An inner call of one of our services, whose parent has waited already."""

    account: "Account | None" = field(default=None, init=False)
    """Set while it runs."""
    turn: asyncio.Future[bool] | None = field(default=None, init=False)
    """Set while it waits; becomes True at a place, False when it is too late."""
    started: float = field(default=0.0, init=False)


@dataclass(slots=True, eq=False)
class Account:
    """What one tenant has had and what of it waits."""

    name: str
    weight: int
    counter: float
    """Cost served, by weight."""
    running: int = 0
    waiting: deque[Ticket] = field(default_factory=deque)
    nested: int = 0
    """How many at the head of `waiting` are nested."""
    tokens: float = 0.0
    """Cost of all in `waiting`."""


_counter = attrgetter("counter")


class FairQueue:
    """Waiting requests of one pool, and the counters of the tenants that run or wait.

    The next request is the oldest one of the waiting tenant with the smallest counter, so that for two tenants that
    both always wait, cost served by weight differs by at most twice the greatest cost of one request by weight.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._accounts: dict[str, Account] = {}
        self._backlogged: dict[str, Account] = {}
        self._last = Account("", 1, 0.0)
        self._weight = 0
        self._forget_at = _FORGET_FROM

    def account(self, ticket: Ticket) -> Account:
        """The ticket's tenant. One that comes back is lifted: what it did not use while away is not saved up."""
        account = self._accounts.get(ticket.tenant)
        if account is None:
            if len(self._accounts) >= self._forget_at:
                self._forget()
            account = self._accounts[ticket.tenant] = Account(ticket.tenant, ticket.weight, 0.0)
        elif account.weight != ticket.weight:
            if account.running or account.waiting:
                self._weight += ticket.weight - account.weight
            account.weight = ticket.weight
        if not account.waiting:
            level = self.level() if self.waiting else self._last.counter
            if account.counter < level:
                account.counter = level
        return account

    def level(self) -> float:
        """The counter from which a tenant that comes back starts."""
        return min(map(_counter, self._backlogged.values())) if self._backlogged else self._last.counter

    def push(self, account: Account, ticket: Ticket) -> None:
        """Add to the end of its tenant's requests, or behind the nested ones of them."""
        if not account.waiting:
            self._backlogged[account.name] = account
            if not account.running:
                self._weight += account.weight
        if ticket.nested:
            account.waiting.insert(account.nested, ticket)
            account.nested += 1
        else:
            account.waiting.append(ticket)
        account.tokens += ticket.tokens
        self.waiting += 1

    def head(self) -> Account:
        """The tenant whose turn it is. Something must wait."""
        return min(self._backlogged.values(), key=_counter)

    def pop(self, account: Account) -> Ticket:
        """Take the tenant's next request out."""
        ticket = account.waiting.popleft()
        self._removed(account, ticket)
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """Take out a request that gives up. False when it does not wait."""
        account = self._backlogged.get(ticket.tenant)
        if account is None or ticket not in account.waiting:
            return False
        account.waiting.remove(ticket)
        self._removed(account, ticket)
        return True

    def start(self, account: Account, ticket: Ticket) -> None:
        """Charge the estimate; the request runs."""
        if not (account.running or account.waiting):
            self._weight += account.weight
        account.running += 1
        account.counter += ticket.tokens / ticket.weight
        self._last = account

    def end(self, account: Account, ticket: Ticket, tokens: float | None) -> None:
        """Correct the charge to what the request really cost."""
        account.running -= 1
        if not (account.running or account.waiting):
            self._weight -= account.weight
        if tokens is not None:
            account.counter += (tokens - ticket.tokens) / ticket.weight

    def share(self, account: Account) -> float:
        """The tenant's part of all places, 0 to 1, at least one other tenant in mind."""
        total = self._weight if account.running or account.waiting else self._weight + account.weight
        return account.weight / total if total > account.weight else 0.5

    def may_pass(self, account: Account, ticket: Ticket) -> bool:
        """Whether a newcomer may pass those who wait: it has nothing waiting and had little of late."""
        return not account.waiting and account.counter <= self.level() + _BURST * ticket.tokens / ticket.weight

    def light(self) -> list[Account]:
        """The tenants with one or two requests waiting that had little of late. Who always has more is not one."""
        level = self.level()
        return [
            account
            for account in self._backlogged.values()
            if len(account.waiting) <= _FEW and account.counter <= level + _BURST * account.tokens / account.weight
        ]

    def ahead(self, account: Account, ticket: Ticket) -> int:
        """How many requests will be served before this one, if the tenants that wait now go on asking."""
        start = account.counter + account.tokens / account.weight
        count = len(account.waiting)
        for other in self._backlogged.values():
            if other is not account and other.counter <= start:
                mean = other.tokens / len(other.waiting) or 1.0
                count += int((start - other.counter) * other.weight / mean) + 1
        return count

    def overdue(self, now: float) -> tuple[list[Ticket], float]:
        """The waiting requests whose deadline has passed, and the next deadline (infinite without one)."""
        every = [ticket for account in self._backlogged.values() for ticket in account.waiting]
        late = [ticket for ticket in every if ticket.deadline <= now]
        return late, min((ticket.deadline for ticket in every if ticket.deadline > now), default=float("inf"))

    def _removed(self, account: Account, ticket: Ticket) -> None:
        account.tokens -= ticket.tokens
        account.nested -= ticket.nested
        self.waiting -= 1
        if not account.waiting:
            account.tokens = 0.0
            del self._backlogged[account.name]
            if not account.running:
                self._weight -= account.weight

    def _forget(self) -> None:
        """Drop the tenants whose return would find them at the level anyway."""
        level = self.level()
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if account.running or account.waiting or account.counter > level
        }
        self._forget_at = max(_FORGET_FROM, 2 * len(self._accounts))
