"""The gate: who gets in, who waits, who is refused, and that no place is ever lost."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from admission.simulation import simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.gateway.admission import Gate, Ticket
from capstan.gateway.config import Pool
from capstan.gateway.outcome import Outcome, Refusal

WEIGHTS = {"a": 2, "b": 2, "batch": 1, "high": 4}


class Desk:
    """A gate, and the requests that hold its places or wait for them."""

    def __init__(self, **pool: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.gate = Gate("p", Pool.model_validate({"urls": ["http://x"], **pool}), self.loop.time)
        self.inside: list[Ticket] = []
        self.served: list[str] = []
        self.charged: dict[str, float] = {}
        self.waiting: dict[asyncio.Task[None], Ticket] = {}
        self.refusals: list[Refusal] = []

    def ask(self, tenant: str, tokens: float = 100, *, within: float = 1e6, nested: bool = False) -> Ticket:
        """One more request."""
        ticket = Ticket(tenant, WEIGHTS.get(tenant, 2), tokens, self.loop.time() + within, nested)
        if self.gate.try_enter(ticket):
            self._in(ticket)
        else:
            task = asyncio.create_task(self._wait(ticket))
            self.waiting[task] = ticket
            task.add_done_callback(self.waiting.pop)
        return ticket

    def end(self, index: int = 0, tokens: float | None = None) -> None:
        """A running request ends."""
        self.gate.leave(self.inside.pop(index), tokens)

    async def settle(self) -> None:
        """Let everything happen that can happen now."""
        for _ in range(4):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in list(self.waiting):
            task.cancel()
        await self.settle()
        while self.inside:
            self.end()
        await self.settle()

    def _in(self, ticket: Ticket) -> None:
        self.inside.append(ticket)
        self.served.append(ticket.tenant)
        self.charged[ticket.tenant] = self.charged.get(ticket.tenant, 0.0) + ticket.tokens

    async def _wait(self, ticket: Ticket) -> None:
        try:
            await self.gate.wait(ticket)
            self._in(ticket)
        except Refusal as refusal:
            self.refusals.append(refusal)


def at_a_desk(**pool: Any) -> Callable[[Callable[[Desk], Coroutine[Any, Any, None]]], Callable[[], None]]:
    """Run a test in simulated time, with a desk."""

    def decorate(test: Callable[[Desk], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        async def main() -> None:
            desk = Desk(**pool)
            await test(desk)
            await desk.close()
            assert (desk.gate.running, desk.gate.queued) == (0, 0)

        def run() -> None:
            simulate(main)

        return run

    return decorate


@at_a_desk(max_concurrent=1)
async def test_tenants_take_turns_whatever_one_has_queued(desk: Desk) -> None:
    desk.ask("x")
    for tenant in ("a", "a", "a", "b", "c"):
        desk.ask(tenant)
    await desk.settle()
    assert desk.gate.queued == 5
    for _ in range(5):
        desk.end()
        await desk.settle()
    assert desk.served == ["x", "b", "c", "a", "a", "a"]  # b and c ask for little and have less than their share


@at_a_desk(max_concurrent=1)
async def test_a_tenant_of_long_requests_gets_fewer_of_them(desk: Desk) -> None:
    desk.ask("x")
    for _ in range(8):
        desk.ask("long", 300)
        desk.ask("short", 100)
    await desk.settle()
    for _ in range(8):
        desk.end()
        await desk.settle()
    assert (desk.served.count("long"), desk.served.count("short")) == (2, 6)


@at_a_desk(max_concurrent=1, max_queued=200)
async def test_priorities_are_shares_and_none_starves(desk: Desk) -> None:
    desk.ask("x")
    for _ in range(50):
        for tenant in ("high", "a", "batch"):
            desk.ask(tenant)
    await desk.settle()
    for _ in range(70):
        desk.end()
        await desk.settle()
    shares = [desk.served.count(tenant) for tenant in ("high", "a", "batch")]
    assert shares == pytest.approx([40, 20, 10], abs=1)


@at_a_desk(max_concurrent=4)
async def test_a_too_high_estimate_costs_nothing_in_the_end(desk: Desk) -> None:
    for _ in range(4):
        desk.ask("x")
    for _ in range(50):
        desk.ask("guesses", 1000)
        desk.ask("knows", 100)
    await desk.settle()
    for _ in range(60):
        desk.end(tokens=100)
        await desk.settle()
    assert desk.served.count("guesses") == pytest.approx(30, abs=8)


@at_a_desk(max_concurrent=1)
async def test_nothing_is_saved_up_while_away(desk: Desk) -> None:
    desk.ask("b")
    for _ in range(100):
        desk.ask("a")
        await desk.settle()
        desk.end()
        await desk.settle()
    for _ in range(10):
        desk.ask("a")
        desk.ask("b")
    await desk.settle()
    before = len(desk.served)
    for _ in range(10):
        desk.end()
        await desk.settle()
    assert desk.served[before:].count("b") <= 6


@at_a_desk(max_concurrent=1)
async def test_a_nested_call_goes_before_its_tenants_others_and_no_prediction_refuses_it(desk: Desk) -> None:
    for _ in range(3):
        desk.ask("x")
        await asyncio.sleep(10)
        desk.end()
    desk.ask("x")
    desk.ask("a")
    first = desk.ask("a", nested=True, within=1)
    second = desk.ask("a", nested=True, within=1)
    desk.ask("a", within=1)
    await desk.settle()
    assert [refusal.outcome for refusal in desk.refusals] == [Outcome.QUEUE_TIMEOUT]
    for _ in range(2):
        desk.end()
        await desk.settle()
    assert first not in desk.waiting.values()
    assert second not in desk.waiting.values()
    assert desk.gate.queued == 1


@at_a_desk(max_concurrent=40, max_queued=40)
async def test_who_comes_to_a_flooded_pool_finds_a_place_at_once(desk: Desk) -> None:
    for _ in range(200):
        desk.ask("flood")
    await desk.settle()
    assert desk.gate.running == 38  # a twentieth is kept
    for _ in range(2):
        assert desk.ask("quiet") in desk.inside
    desk.ask("quiet")
    await desk.settle()
    assert desk.gate.running == 40
    assert "quiet" in [ticket.tenant for ticket in desk.waiting.values()]  # its queue has room as well
    for _ in range(30):
        desk.end(0)
        await desk.settle()
        desk.ask("quiet")
        await desk.settle()
    assert 15 <= sum(ticket.tenant == "quiet" for ticket in desk.inside) <= 20  # as long as it is below its half


@at_a_desk(max_concurrent=10, max_queued=10)
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(desk: Desk) -> None:
    for number in range(100):
        desk.ask(f"tenant-{number % 30}")
    await desk.settle()
    assert desk.gate.queued == 10
    assert {refusal.outcome for refusal in desk.refusals} == {Outcome.QUEUE_FULL}
    assert all(refusal.status_code == 503 and refusal.headers["retry-after"] for refusal in desk.refusals)


@at_a_desk(max_concurrent=1, max_queued=100)
async def test_a_wait_that_is_predicted_too_long_is_refused_at_once(desk: Desk) -> None:
    for _ in range(10):
        desk.ask("a")
        await asyncio.sleep(1)
        desk.end()
    desk.ask("a")
    for _ in range(60):
        desk.ask("a", within=30)
    await desk.settle()
    accepted = desk.gate.queued
    assert 10 < accepted < 30
    assert {refusal.outcome for refusal in desk.refusals} == {Outcome.QUEUE_TIMEOUT}
    assert int(desk.refusals[0].headers["retry-after"]) == pytest.approx(accepted + 1, rel=0.2)
    for _ in range(accepted):
        await asyncio.sleep(1)
        desk.end()
        await desk.settle()
    assert len(desk.refusals) == 60 - accepted


@at_a_desk(max_concurrent=1)
async def test_who_waits_too_long_is_told_at_its_deadline(desk: Desk) -> None:
    desk.ask("a")
    desk.ask("a", within=5)
    desk.ask("a", within=2)
    await asyncio.sleep(2.5)
    assert desk.gate.queued == 1
    await asyncio.sleep(3)
    assert desk.gate.queued == 0
    assert [refusal.outcome for refusal in desk.refusals] == [Outcome.QUEUE_TIMEOUT] * 2


@at_a_desk(max_concurrent=1)
async def test_who_gives_up_in_the_moment_its_turn_comes_hands_the_place_on(desk: Desk) -> None:
    desk.ask("a")
    desk.ask("a")
    desk.ask("b")
    await desk.settle()
    desk.end()
    next(iter(desk.waiting)).cancel()
    await desk.settle()
    assert desk.served == ["a", "b"]


@at_a_desk(max_concurrent=2)
async def test_more_capacity_lets_the_waiting_in(desk: Desk) -> None:
    for _ in range(10):
        desk.ask("a")
    await desk.settle()
    assert desk.gate.running == 2
    desk.gate.capacity(3)
    await desk.settle()
    assert desk.gate.running == 6
    desk.gate.capacity(0)  # none looks healthy: stale knowledge takes no place away
    assert desk.gate.limit == 6
    desk.gate.reconfigure(Pool.model_validate({"urls": ["http://x"], "max_concurrent": 1}))
    assert desk.gate.limit == 3
    for _ in range(4):
        desk.end()
    await desk.settle()
    assert desk.gate.running == 3


@at_a_desk(max_concurrent=1)
async def test_a_place_given_back_twice_counts_once(desk: Desk) -> None:
    ticket = desk.ask("a")
    desk.gate.leave(ticket, 50)
    desk.gate.leave(ticket, 50)
    desk.inside.clear()
    assert desk.gate.running == 0
    await desk.settle()


@at_a_desk(max_concurrent=4)
async def test_a_million_tenants_leave_nothing_behind(desk: Desk) -> None:
    for number in range(20_000):
        desk.ask(f"tenant-{number}")
        desk.end()
    assert len(desk.gate._queue._accounts) <= 128
    await desk.settle()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "nested", "end", "end", "cancel", "end and cancel", "pass time", "limit"]
        ),
        st.sampled_from(sorted(WEIGHTS)),
        st.integers(1, 500),
        st.booleans(),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=150)
@given(STEPS, st.integers(1, 20), st.integers(0, 12))
def test_whatever_happens_counts_are_exact_and_no_place_is_idle(
    steps: list[tuple[str, str, int, bool]], places: int, max_queued: int
) -> None:
    async def main() -> None:
        desk = Desk(max_concurrent=places, max_queued=max_queued)
        for step, tenant, number, at_once in steps:
            _take(desk, step, tenant, number)
            if at_once:
                continue
            await desk.settle()
            gate = desk.gate
            assert gate.running == len(desk.inside)
            assert gate.queued == len(desk.waiting) <= max_queued
            if gate.queued:
                kept = round(0.05 * gate.limit) or 1
                assert gate.running >= gate.limit - (kept if gate.limit >= 8 else 0)
        await desk.close()
        assert (desk.gate.running, desk.gate.queued, desk.gate._queue._weight) == (0, 0, 0)

    simulate(main)


def _take(desk: Desk, step: str, tenant: str, number: int) -> None:
    if step in ("ask", "nested"):
        desk.ask(tenant, number, within=number / 10, nested=step == "nested")
    elif step == "pass time":
        desk.loop._jumping.passed += number / 50  # type: ignore[attr-defined]
    elif step == "limit":
        desk.gate.capacity(number % 3)
    if step.startswith("end") and desk.inside:
        desk.end(number % len(desk.inside), tokens=float(number))
    if step.endswith("cancel") and desk.waiting:
        list(desk.waiting)[number % len(desk.waiting)].cancel()


BACKLOG = 5
"""A step may start two of a tenant's; who has a single request left waiting may pass others (see `FairQueue.light`)."""
OTHERS = st.lists(
    st.tuples(st.sampled_from(["end", "end", "ask", "cancel"]), st.sampled_from("cdefg"), st.integers(1, 300)),
    min_size=20,
    max_size=150,
)


@settings(deadline=None, max_examples=100)
@given(OTHERS, st.integers(1, 24), st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])), st.randoms())
def test_two_tenants_that_always_wait_are_served_alike_whatever_others_do(
    steps: list[tuple[str, str, int]], places: int, weights: tuple[int, int], random: Any
) -> None:
    """VTC's bound: weighted service over any interval differs by at most twice the greatest weighted cost."""

    async def main() -> None:
        desk = Desk(max_concurrent=places, max_queued=10_000)
        WEIGHTS.update(m=weights[0], n=weights[1])
        for _ in range(places):
            desk.ask("x")
        differences = []
        for step, tenant, number in steps:
            for steady in ("m", "n"):
                for _ in range(BACKLOG - sum(t.tenant == steady for t in desk.waiting.values())):
                    desk.ask(steady, random.randint(1, 300))
            if step == "ask":
                desk.ask(tenant, number)
            elif step == "cancel":
                others = [task for task, ticket in desk.waiting.items() if ticket.tenant not in ("m", "n")]
                if others:
                    others[number % len(others)].cancel()
            elif desk.inside:
                desk.end(number % len(desk.inside))
            await desk.settle()
            m, n = (desk.charged.get(name, 0.0) / weight for name, weight in zip("mn", weights, strict=True))
            differences.append(m - n)
        assert max(differences) - min(differences) <= 2 * 300 / min(weights)
        await desk.close()

    simulate(main)
