"""Bounded admission to a pool: a fixed number run, a bounded number wait, tenants take turns."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from capstan.gateway.config import Pool
from capstan.gateway.outcome import Outcome, Refusal


class Admission:
    """The gate of one pool. Waiting tenants are served round robin, each one's requests in order."""

    def __init__(self, name: str, pool: Pool) -> None:
        self._name = name
        self._limit = pool.max_concurrent
        self._max_queued = pool.max_queued
        self._timeout_s = pool.queue_timeout_s
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.running = 0
        self.queued = 0

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Hold a running place. Raises `Refusal` when the queue is full or the wait too long."""
        if self.running < self._limit:
            self.running += 1
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, tenant: str) -> None:
        if self.queued >= self._max_queued:
            raise Refusal(Outcome.QUEUE_FULL, f"pool {self._name!r} is overloaded: its queue is full", retry_after=2)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(tenant, deque()).append(turn)
        self.queued += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                self._release()  # the place was handed over in the very moment we gave up
            else:
                self._forget(tenant, turn)
            if isinstance(error, TimeoutError):
                message = f"pool {self._name!r} is overloaded: waited {self._timeout_s:g} s for a place"
                raise Refusal(Outcome.QUEUE_TIMEOUT, message, retry_after=self._timeout_s) from None
            raise

    def _release(self) -> None:
        """Hand the place to the tenant whose turn it is, or free it."""
        while self._queues:
            tenant, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            if queue:
                self._queues.move_to_end(tenant)
            else:
                del self._queues[tenant]
            if not turn.done():  # a waiter that was cancelled and has not run since
                self.queued -= 1
                turn.set_result(None)
                return
        self.running -= 1

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        self.queued -= 1
        queue = self._queues.get(tenant)
        if queue and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[tenant]
