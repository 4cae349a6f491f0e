"""A pool at run time: its members, its gate, and the choice between members."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from capstan.gateway.admission import Gate
from capstan.gateway.balance import POLICIES
from capstan.gateway.config import Pool
from capstan.gateway.member import Member, Place
from capstan.gateway.prefix import PrefixIndex
from capstan.gateway.retry_budget import RetryBudget
from capstan.gateway.upstream import Upstream

log = logging.getLogger("capstan.gateway.pool")

_SMOOTHING = 0.05
_USUAL_REQUEST = 512.0
"""Tokens of a request until some have come."""


class Connect(Protocol):
    """Makes an upstream: `functools.partial(Upstream, watchdog=…)`."""

    def __call__(self, url: str, *, api_key: str, address: str) -> Upstream:
        """No I/O happens yet."""


class PoolState:
    """A pool at run time. All of it is synchronous: one event loop owns it."""

    def __init__(self, name: str, config: Pool, api_key: str, *, now: Callable[[], float], connect: Connect) -> None:
        self.name = name
        self.members: list[Member] = []
        self.adapters: dict[str, str] = {}
        """Directories of the LoRA adapters that are served here, by model name."""
        self.index = PrefixIndex()
        self.prefix_queries = 0
        """Blocks of prompts for which there was a choice of members."""
        self.prefix_hits = 0
        """Those of them that the chosen member had been sent before."""
        self._now = now
        self._connect = connect
        self._api_key = api_key
        self._request = _USUAL_REQUEST
        self._turn = 0
        self.unresolved = False
        """The last look-up of its host name failed."""
        self._retired = False
        self.config = config
        self.gate = Gate(name, config, now)
        self.retries = RetryBudget(config.retry_ratio, now)
        self._max_concurrent = config.max_concurrent
        self.set_members([Place(str(url)) for url in config.urls])

    def configure(self, config: Pool, api_key: str) -> None:
        """Take on a new configuration; members that stay keep their connections and health."""
        # Under a new host name the old members serve until it has been looked up.
        places = [Place(str(url)) for url in config.urls] or [m.place for m in self.members]
        same_service = api_key == self._api_key and config.kind == self.config.kind
        self._api_key = api_key
        self.config = config
        self._max_concurrent = config.max_concurrent
        self.gate.reconfigure(config)
        self.retries.ratio = config.retry_ratio
        if not same_service:
            self.set_members([])
        for member in self.members:
            member.health.pool = config
        self.set_members(places)

    # the request path

    def pick(
        self, blocks: Sequence[int], *, exclude: Member | None, model: str, routing: str = "prefix"
    ) -> Member | None:
        """The best member by a policy for a request with these prompt blocks, or None: nothing can take it.

        Call `began` before anything is awaited. With no member that looks healthy the least bad one is tried, as
        what is known may be out of date; a retry (`exclude`: where it failed) goes to a healthy one only.
        """
        members = self.members
        if len(members) == 1 and exclude is None:
            return members[0]
        most = self._max_concurrent
        able = [m for m in members if m.running < most and (m.health.ok or m.health.admits()) and m is not exclude]
        if not able:
            return self._least_bad(exclude)
        self._turn = turn = (self._turn + 1) % len(able)  # equals take turns
        able = able[turn:] + able[:turn]
        adapter = model if model in self.adapters else None
        member, matched = POLICIES[routing](able, blocks, self.index, self._request, adapter)
        self.prefix_queries += len(blocks)
        self.prefix_hits += matched
        return member

    def began(self, member: Member, blocks: Sequence[int], tokens: int) -> None:
        """A request of about that many tokens, input and output, goes to the member."""
        member.running += 1
        member.outstanding += tokens
        self._request += (tokens - self._request) * _SMOOTHING
        self.retries.deposit()
        if not member.health.ok:
            member.health.began()
        if blocks and len(self.members) > 1:
            self.index.add(blocks, member.bit)

    def ended(self, member: Member, tokens: int) -> None:
        """It is over, however it went; `tokens` as given to `began`."""
        member.running -= 1
        member.outstanding -= tokens
        if not member.health.ok:
            member.health.ended()
        if not member.running and (member.leaving or self._retired):
            member.upstream.close()

    def succeeded(self, member: Member) -> None:
        """The member has begun a good answer."""
        if member.health.succeeded():
            self.health_changed(member)

    def failed(self, member: Member, *, unreachable: bool = False) -> None:
        """The member broke off, answered 5xx or took too long; `unreachable`: no connection could be made."""
        if member.health.failed(unreachable=unreachable):
            self.health_changed(member)

    def _least_bad(self, exclude: Member | None) -> Member | None:
        others = [m for m in self.members if m is not exclude and (exclude is None or m.health.admits())]
        return min(others, key=_badness, default=None)

    # from outside the request path

    @property
    def able(self) -> int:
        """How many members can take requests; one at least, as the least bad one is tried."""
        return max(1, sum(m.health.up and not m.health.circuit_open for m in self.members))

    def health_changed(self, member: Member) -> None:
        """Say so, to the operator and to the gate."""
        health = member.health
        state = "down" if not health.up else "circuit open" if health.circuit_open else "up"
        log.warning("upstream %s", state, extra={"pool": self.name, "upstream": member.name})
        self.capacity_changed()

    def capacity_changed(self) -> None:
        """Tell the gate."""
        self.gate.capacity(self.able)

    def set_members(self, places: Iterable[Place]) -> None:
        """Make these the members: those that stay keep connections and health, those that go finish what runs."""
        wanted = dict.fromkeys(places)
        joins_others = bool(self.members)
        for member in self.members:
            if member.place not in wanted:
                self._dismiss(member)
        self.members = [m for m in self.members if not m.leaving]
        known = {m.place for m in self.members}
        for place in wanted:
            if place not in known:
                upstream = self._connect(place.url, api_key=self._api_key, address=place.address)
                bit = _lowest_free(m.bit for m in self.members)
                self.members.append(Member(place, upstream, self.config, bit, self._now, new=joins_others))
        self.capacity_changed()

    def status(self) -> dict[str, Any]:
        """What an operator wants to know, as JSON. Loads are in tokens."""
        gate = self.gate
        members = [m.status() for m in self.members]
        return {"limit": gate.limit, "running": gate.running, "queued": gate.queued, "upstreams": members}

    def retire(self) -> None:
        """The pool is no longer configured. What waits and runs still finishes."""
        self._retired = True
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        for member in self.members:
            member.upstream.close()

    def _dismiss(self, member: Member) -> None:
        member.leaving = True
        member.upstream.close()
        self.index.forget(member.bit)


def _badness(member: Member) -> tuple[bool, float, int]:
    health = member.health
    return not health.up, health.away_until, member.outstanding


def _lowest_free(bits: Iterable[int]) -> int:
    taken = sum(bits)
    return ~taken & (taken + 1)
