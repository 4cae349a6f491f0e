"""What must hold of a gateway at rest, whatever has happened to it: no leak, and each request settled once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

from capstan.gateway.quota import Reservation

GAUGES = ("capstan_gateway_running{", "capstan_gateway_queued{", "capstan_gateway_upstream_outstanding_tokens{")


class Book:
    """Stands between a gateway's endpoint and its quota, and notes what passes."""

    def __init__(self, gateway: Any) -> None:
        self._quota = gateway._quota
        self.reserved: list[Reservation] = []
        self.settled: list[tuple[str, int]] = []
        gateway._endpoint._quota = self

    async def reserve(self, *args: Any, **kwargs: Any) -> Reservation:
        reservation: Reservation = await self._quota.reserve(*args, **kwargs)
        self.reserved.append(reservation)
        return reservation

    def settle(self, reservation: Reservation, tokens: int, cost: int) -> None:
        self.settled.append((reservation.id, tokens))
        self._quota.settle(reservation, tokens, cost)

    @property
    def open(self) -> int:
        """Reservations that are not settled."""
        return len(self.reserved) - len(self.settled)


async def check_at_rest(setup: Any, book: Book) -> None:
    """Wait until nothing runs, then compare quota, metrics and ledger."""
    for gauge in GAUGES:
        await until(lambda gauge=gauge: is_zero(setup, gauge))
    await until(lambda: not book.open)
    assert Counter(id for id, _ in book.settled) == Counter(r.id for r in book.reserved), "not settled exactly once"
    settled = sum(tokens for _, tokens in book.settled)
    assert await tokens_in_metrics(setup) == settled
    assert await tokens_in_ledger(setup) == settled
    states = getattr(setup.gateway._quota, "_states", {})
    assert {(s.running, s.held) for s in states.values()} <= {(0, 0)}


async def is_zero(setup: Any, gauge: str) -> bool:
    return bool(await setup.metric(gauge) == 0)


async def tokens_in_metrics(setup: Any) -> float:
    text = (await setup.client.get("/metrics")).text
    samples = [line for line in text.splitlines() if line.startswith("capstan_gateway_tokens_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in samples)


async def tokens_in_ledger(setup: Any) -> int:
    rows = await setup.gateway._ledger.read(None, date.min, date.max)
    return sum(row.used.input + row.used.output for row in rows)


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    """Wait for what happens in the background."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if not isinstance(holds, bool):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.01)
