"""Usage in Redis, for several gateways: one hash a day, added to in batches."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from capstan.gateway.ledger import KEPT, Tally, UsageRow, Used
from capstan.gateway.redis_client import UNREACHABLE, connect, no_start, unavailable

PREFIX = "capstan:{usage}:"

_ADD = """
-- KEYS: this writer's last sequence number, then one hash a day.
-- ARGV: sequence number, TTL in seconds, then for each count: index of its key, field, amount.
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for i = 3, #ARGV, 3 do redis.call('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]) end
for i = 2, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
return 1
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Usage on its way. Its number lets Redis refuse it a second time, if only the first answer was lost."""

    sequence: int
    tally: Tally


class RedisLedger:
    """Usage in Redis. What could not be written stays in memory and is written later, exactly once.

    `wall` is Unix time in seconds. Memory is bounded by the names of tenants and models, however long Redis is gone.
    """

    def __init__(
        self, url: str, *, timeout_s: float, interval_s: float = 1.0, wall: Callable[[], float] = time.time
    ) -> None:
        self._redis = connect(url, timeout_s)
        self._add = self._redis.register_script(_ADD)
        self._interval_s = interval_s
        self._wall = wall
        self._tally = Tally()
        self._batch: _Batch | None = None
        self._sequence = 0
        self._own = f"{PREFIX}writer:{uuid.uuid4().hex}"
        self._flushing = asyncio.Lock()
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._failing = False

    def add(self, day: date, tenant: str, model: str, usage: Used) -> None:
        """See `Ledger.add`."""
        self._tally.add(day, tenant, model, usage)

    async def read(self, tenant: str | None, start: date, end: date) -> list[UsageRow]:
        """See `Ledger.read`."""
        today = datetime.fromtimestamp(self._wall(), UTC).date()
        first, last = max(start, today - KEPT), min(end, today)
        days = [first + timedelta(n) for n in range((last - first).days + 1)]
        try:
            await self._flush()
            async with self._redis.pipeline(transaction=False) as pipe:
                for day in days:
                    pipe.hgetall(f"{PREFIX}{day}")
                found = await pipe.execute()
        except UNREACHABLE:
            raise unavailable("usage") from None
        tally = Tally()
        for day, fields in zip(days, found, strict=True):
            for field, amount in fields.items():
                owner, kind, model = field.decode().split(":", 2)
                tally.add(day, owner, model, Used(**{kind: int(amount)}))
        return tally.rows(tenant, start, end)

    async def start(self) -> None:
        """See `Ledger.start`."""
        try:
            await self._redis.ping()
        except UNREACHABLE as error:
            await self._redis.aclose()
            raise no_start(error) from None
        self._writer = asyncio.create_task(self._write_forever())

    async def close(self) -> None:
        """See `Ledger.close`."""
        self._closing.set()
        if self._writer is not None:
            await self._writer
        if self._failing:
            log.error("usage was not written: Redis did not answer until the end")
        await self._redis.aclose()

    async def _write_forever(self) -> None:
        closing = False
        while not closing:
            with contextlib.suppress(TimeoutError):
                closing = await asyncio.wait_for(self._closing.wait(), self._interval_s)
            try:
                await self._flush()
            except UNREACHABLE as error:
                self._tell(failing=True, reason=type(error).__name__)
            else:
                self._tell(failing=False)

    async def _flush(self) -> None:
        """Write what there is: first what may not have arrived the last time, then what came since."""
        async with self._flushing:
            if self._batch is not None:
                await self._send(self._batch)
                self._batch = None
            if self._tally.days:
                self._sequence += 1
                self._batch, self._tally = _Batch(self._sequence, self._tally), Tally()
                await self._send(self._batch)
                self._batch = None

    async def _send(self, batch: _Batch) -> None:
        keys, arguments = [self._own], [str(batch.sequence), str(int(KEPT.total_seconds()))]
        for day, cells in batch.tally.days.items():
            keys.append(f"{PREFIX}{day}")
            for (tenant, model), cell in cells.items():
                for kind, amount in zip(Used._fields, cell, strict=True):
                    if amount:
                        arguments += [str(len(keys)), f"{tenant}:{kind}:{model}", str(amount)]
        await self._add(keys=keys, args=arguments)

    def _tell(self, *, failing: bool, reason: str = "") -> None:
        if failing and not self._failing:
            log.error("usage cannot be written to Redis and is kept in memory", extra={"why": reason})
        elif self._failing and not failing:
            log.info("usage is written to Redis again")
        self._failing = failing
