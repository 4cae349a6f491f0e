"""A pool under load in simulated time: the real `Gate` on an event loop whose clock jumps, before modelled engines."""

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from capstan.gateway.admission import Gate, Ticket
from capstan.gateway.config import Pool
from capstan.gateway.fair_queue import cost
from capstan.gateway.outcome import Refusal

PROBE_S = 2.0  # the engines' own readings


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: makes the time pass that it should have waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits for something that will never happen"
        self.passed += max(0.0, timeout)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in simulated time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed


def simulate(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run `main()` in simulated time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


@dataclass(slots=True, eq=False)
class Generation:
    """One request in an engine."""

    prompt: int
    output: int
    first: asyncio.Future[None]
    end: asyncio.Future[None]
    due: float = 0.0
    sent: int = 0


@dataclass
class Engine:
    """Continuous batching in steps, with the same cost model and defaults as the simulated worker."""

    max_num_seqs: int = 32
    ttft_s: float = 0.05
    tpot_s: float = 0.02
    tpot_growth: float = 0.02
    prefill_tokens_per_s: float = 8000.0
    running: list[Generation] = field(default_factory=list)
    waiting: deque[Generation] = field(default_factory=deque)
    stepping: bool = False

    @property
    def load(self) -> int:
        return len(self.running) + len(self.waiting)

    def add(self, prompt: int, output: int) -> Generation:
        loop = asyncio.get_running_loop()
        generation = Generation(prompt, output, loop.create_future(), loop.create_future())
        self.waiting.append(generation)
        if not self.stepping:
            self.stepping = True
            loop.call_soon(self._step)
        return generation

    def _step(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting and len(self.running) < self.max_num_seqs:
            generation = self.waiting.popleft()
            generation.due = loop.time() + self.ttft_s
            self.running.append(generation)
        if not self.running:
            self.stepping = False
            return
        budget, decoding = 2048, [g for g in self.running if g.sent]
        for generation in self.running:
            part = min(generation.prompt, budget)
            generation.prompt -= part
            budget -= part
        seconds = (2048 - budget) / self.prefill_tokens_per_s
        if decoding:
            seconds += self.tpot_s * (1 + self.tpot_growth * (len(decoding) - 1))
        loop.call_later(seconds or 0.005, self._finish, decoding)

    def _finish(self, decoding: list[Generation]) -> None:
        now = asyncio.get_running_loop().time()
        first = [g for g in self.running if not g.sent and not g.prompt and now >= g.due - 1e-9]
        for generation in decoding + first:
            generation.sent += 1
            if generation.sent == 1:
                generation.first.set_result(None)
            if generation.sent == generation.output:
                generation.end.set_result(None)
        self.running = [g for g in self.running if not g.end.done()]
        self._step()


@dataclass
class Call:
    """What one request met with. Times in seconds."""

    at: float
    tenant: str
    waited: float | None = None
    """At the gate."""
    ttft: float | None = None
    refused_after: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Load:
    """One tenant's Poisson arrivals of requests whose lengths are evenly spread."""

    tenant: str
    rate: float
    prompt: tuple[int, int] = (64, 192)
    output: tuple[int, int] = (32, 96)
    weight: int = 2


def run(pool: Pool, loads: Sequence[Load], *, seconds: float, ttft_s: float = 0.05, gated: bool = True) -> list[Call]:
    """Offer the loads to a pool of two engines for some simulated seconds.

    A request may wait for the pool's `queue_timeout_s`. Where not `gated` all go to the engines at once.
    """
    return simulate(lambda: _run(pool, loads, seconds, ttft_s, gated))


async def _run(pool: Pool, loads: Sequence[Load], seconds: float, ttft_s: float, gated: bool) -> list[Call]:
    loop = asyncio.get_running_loop()
    workers = [Engine(ttft_s=ttft_s) for _ in range(2)]
    gate = Gate("pool", pool, loop.time)
    gate.capacity(len(workers))
    calls: list[Call] = []

    async def request(call: Call, load: Load, prompt: int, output: int) -> None:
        ticket = Ticket(load.tenant, load.weight, cost(prompt, output), call.at + pool.queue_timeout_s)
        if gated and not gate.try_enter(ticket):
            try:
                await gate.wait(ticket)
            except Refusal:
                call.refused_after = loop.time() - call.at
                return
        worker = min(workers, key=lambda w: w.load)
        sent = loop.time()
        call.waited = sent - call.at
        generation = worker.add(prompt, output)
        await generation.first
        call.ttft = loop.time() - call.at
        gate.first_token(loop.time() - sent)
        await generation.end
        call.ended = loop.time()
        gate.leave(ticket, cost(prompt, output))

    async def arrive(load: Load) -> None:
        random = Random(load.tenant)
        while loop.time() < seconds:
            await asyncio.sleep(random.expovariate(load.rate))
            call = Call(loop.time(), load.tenant)
            calls.append(call)
            tasks.add(
                asyncio.create_task(request(call, load, random.randint(*load.prompt), random.randint(*load.output)))
            )

    async def probe() -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            gate.engine(sum(len(w.waiting) for w in workers), 0.0, len(workers))

    tasks: set[asyncio.Task[None]] = set()
    probing = asyncio.create_task(probe())
    await asyncio.gather(*(arrive(load) for load in loads))
    if gated:
        await asyncio.gather(*tasks)
    else:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    probing.cancel()
    return calls


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


@dataclass(frozen=True)
class Figures:
    """Of the calls that arrived between two moments."""

    goodput: float
    """Requests a second that began within the SLO and ended."""
    ttft_p99: float
    wait_p99: float
    """At the gate, of those that were let in."""
    refusals: int
    refusal_p99: float
    late: float
    """Part of the refusals that came only after a wait of 20 ms or more."""


def figures(calls: Sequence[Call], start: float, end: float, slo_s: float, tenant: str | None = None) -> Figures:
    window = [c for c in calls if start <= c.at < end and tenant in (None, c.tenant)]
    good = [c for c in window if c.ended and c.ttft is not None and c.ttft <= slo_s]
    refused = [c.refused_after for c in window if c.refused_after is not None]
    return Figures(
        goodput=len(good) / (end - start),
        ttft_p99=percentile([c.ttft for c in window if c.ttft is not None], 99),
        wait_p99=percentile([c.waited for c in window if c.waited is not None], 99),
        refusals=len(refused),
        refusal_p99=percentile(refused, 99),
        late=sum(r >= 0.02 for r in refused) / max(1, len(refused)),
    )
