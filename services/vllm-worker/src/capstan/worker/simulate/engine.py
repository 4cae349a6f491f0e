"""The simulated scheduler: continuous batching in steps, as vLLM's engine core does it.

`Engine` is a state machine without clock or I/O: `plan` starts a step and says how long it takes, `finish` ends it.
`Engine.run` drives it with a clock.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol

from capstan.worker.simulate.prefix_cache import Lease, PrefixCache

FinishReason = Literal["stop", "length", "abort"]

_STEP_TOKENS = 2048  # vLLM's default --max-num-batched-tokens: prompt tokens computed in one step
_IDLE_STEP_S = 0.005  # with nothing to compute, how soon new arrivals and aborts are seen
_MAX_LAG_S = 0.1  # on a machine too busy for the steps to keep up, they take longer
_EPSILON_S = 1e-9


class Clock(Protocol):
    """Time, so that tests can make it pass."""

    def now(self) -> float:
        """Seconds since some start."""

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the simulated hardware is."""

    ttft_s: float
    tpot_s: float
    tpot_growth: float
    prefill_tokens_per_s: float
    jitter: float
    seed: int


@dataclass(slots=True, eq=False)
class Request:
    """One generation, from its arrival to its end."""

    prompt: list[int]
    answer: list[str]
    max_tokens: int
    adapter: str | None
    finish_reason: Literal["stop", "length"]
    """How it ends when nobody aborts it."""
    stop_reason: str | None = None
    on_token: Callable[["Request"], None] = lambda _: None
    """Called after each step that gave a token, and once at the end."""

    arrived: float = 0.0
    scheduled: float = 0.0
    due: float = 0.0
    """Earliest time of the first token."""
    first_token: float = 0.0
    last_token: float = 0.0
    sent: int = 0
    to_prefill: int = 0
    lease: Lease | None = None
    finished: FinishReason | None = None
    aborted: bool = False


class Observer(Protocol):
    """Takes the measurements."""

    def scheduled(self, request: Request, cached_tokens: int) -> None:
        """A request left the queue."""

    def token(self, request: Request, since_last: float) -> None:
        """A request got a token, `since_last` seconds after the last one (or, for the first, after arrival)."""

    def finished(self, request: Request, now: float) -> None:
        """A request ended by itself or by a drain's end."""

    def aborted(self, request: Request) -> None:
        """A request's client went away."""


@dataclass(slots=True)
class Engine:
    """Running and waiting requests of one simulated vLLM."""

    speed: Speed
    max_num_seqs: int
    queue_limit: int | None
    cache: PrefixCache
    observer: Observer
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    _random: Random = field(init=False)
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _decoding: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(self.speed.seed)  # noqa: S311 - timing, not secrets

    @property
    def unfinished(self) -> int:
        """Requests that run or wait."""
        return len(self.running) + len(self.waiting)

    @property
    def full(self) -> bool:
        """Whether another request would be rejected."""
        return self.queue_limit is not None and self.unfinished >= self.queue_limit

    def add(self, request: Request, now: float) -> None:
        """Queue a request."""
        request.arrived = now
        self.waiting.append(request)
        self._idle.clear()
        self._work.set()

    def abort(self, request: Request) -> None:
        """The client went away: leave the queue now, or the batch when the present step ends."""
        if request.finished is None and not request.aborted:
            request.aborted = True
            self._work.set()

    def plan(self, now: float) -> float | None:
        """Start a step: drop what was aborted, let waiting requests in, and say how many seconds it takes.

        None when there is nothing to do.
        """
        self._drop_aborted()
        self._admit(now)
        if not self.running:
            return None
        budget, prefilled, wakes = _STEP_TOKENS, 0, []
        self._decoding = []
        for request in self.running:
            if request.to_prefill:
                part = min(request.to_prefill, budget)
                budget -= part
                prefilled += part
                request.to_prefill -= part
            elif request.sent:
                self._decoding.append(request)
            if not request.to_prefill and not request.sent:
                wakes.append(request.due - now)
        seconds = prefilled / self.speed.prefill_tokens_per_s + self._decode_seconds(len(self._decoding))
        if not self._decoding and not prefilled:
            return min(max(0.0, min(wakes)), _IDLE_STEP_S)
        return seconds * (1 + self.speed.jitter * self._random.uniform(-1, 1))

    def finish(self, now: float) -> None:
        """End the step: a token for each decoding request, and for each whose first one is due."""
        decoding, self._decoding = self._decoding, []
        first = [r for r in self.running if not r.sent and not r.to_prefill and now >= r.due - _EPSILON_S]
        for request in decoding + first:
            if not request.aborted:
                self._give_token(request, now)
        self.running = [request for request in self.running if request.finished is None]

    def end_all(self, now: float) -> None:
        """End every request where it is, as vLLM does when a drain takes too long."""
        for request in [*self.running, *self.waiting]:
            self._end(request, "abort", now)
        self.running.clear()
        self.waiting.clear()

    async def idle(self) -> None:
        """Return when nothing runs or waits."""
        if self.unfinished:
            await self._idle.wait()

    async def run(self, clock: Clock) -> None:
        """Step for ever. A step starts where the last one should have ended, so that our own work adds no time."""
        due = clock.now()
        while True:
            self._work.clear()
            start = max(due, clock.now() - _MAX_LAG_S)
            seconds = self.plan(start)
            if seconds is None:
                self._idle.set()
                await self._work.wait()
                due = clock.now()
                continue
            due = start + seconds
            await clock.sleep(max(0.0, due - clock.now()))
            self.finish(due)

    def _decode_seconds(self, batch: int) -> float:
        return self.speed.tpot_s * (1 + self.speed.tpot_growth * (batch - 1)) if batch else 0.0

    def _admit(self, now: float) -> None:
        while self.waiting and len(self.running) < self.max_num_seqs:
            request = self.waiting[0]
            lease = self.cache.acquire(request.prompt, request.max_tokens, request.adapter or "")
            if lease is None:
                return
            self.waiting.popleft()
            request.lease = lease
            request.scheduled = max(now, request.arrived)
            request.due = request.scheduled + self.speed.ttft_s
            request.to_prefill = len(request.prompt) - lease.cached_tokens
            self.running.append(request)
            self.observer.scheduled(request, lease.cached_tokens)

    def _drop_aborted(self) -> None:
        gone = [request for request in [*self.running, *self.waiting] if request.aborted]
        for request in gone:
            self._release(request)
            self.observer.aborted(request)
        if gone:
            self.running = [request for request in self.running if not request.aborted]
            self.waiting = deque(request for request in self.waiting if not request.aborted)

    def _give_token(self, request: Request, now: float) -> None:
        since = now - (request.last_token if request.sent else request.arrived)
        request.sent += 1
        if request.sent == 1:
            request.first_token = now
        request.last_token = now
        self.observer.token(request, since)
        if request.sent >= len(request.answer):
            self._end(request, request.finish_reason, now)
        else:
            request.on_token(request)

    def _end(self, request: Request, reason: FinishReason, now: float) -> None:
        request.finished = reason
        self._release(request)
        self.observer.finished(request, now)
        request.on_token(request)

    def _release(self, request: Request) -> None:
        if request.lease is not None:
            self.cache.release(request.lease)
            request.lease = None
