"""What was used, per day (UTC), tenant and model: in a file here, in Redis in ledger_redis.py."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

from capstan.gateway.config import ConfigError

KEPT = timedelta(days=400)
"""Usage older than this is forgotten."""

log = logging.getLogger(__name__)


class Used(NamedTuple):
    """What was used. Tokens, and micro-dollars; `cached_input` is the part of `input` that came from a cache."""

    requests: int = 0
    input: int = 0
    cached_input: int = 0
    output: int = 0
    cost: int = 0


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a tenant used of a model on a day."""

    day: date
    tenant: str
    model: str
    used: Used


class Ledger(Protocol):
    """Where usage is kept."""

    def add(self, day: date, tenant: str, model: str, usage: Used) -> None:
        """Count usage. Never waits: it is written in the background."""
        ...

    async def read(self, tenant: str | None, start: date, end: date) -> list[UsageRow]:
        """Rows of the days `start` to `end`, both included, of one tenant or all, in order.

        Raises `ApiError` 503 if the place cannot be reached.
        """
        ...

    async def start(self) -> None:
        """Begin to write. Raises `ConfigError`."""
        ...

    async def close(self) -> None:
        """Write what is left and stop."""
        ...


Cells = dict[tuple[str, str], list[int]]
"""A day's usage by tenant and model: `Used` as a list that can be added to."""


class Tally:
    """Usage in memory. `add` is on the request path: two look-ups and five additions."""

    def __init__(self) -> None:
        self.days: dict[date, Cells] = {}

    def add(self, day: date, tenant: str, model: str, usage: Used) -> None:
        """Count usage."""
        cells = self.days.get(day)
        if cells is None:
            cells = self.days[day] = {}
        cell = cells.get((tenant, model))
        if cell is None:
            cells[tenant, model] = list(usage)
            return
        requests, input, cached_input, output, cost = usage
        cell[0] += requests
        cell[1] += input
        cell[2] += cached_input
        cell[3] += output
        cell[4] += cost

    def rows(self, tenant: str | None, start: date, end: date) -> list[UsageRow]:
        """See `Ledger.read`."""
        return [
            UsageRow(day, owner, model, Used(*cell))
            for day in sorted(self.days)
            if start <= day <= end
            for (owner, model), cell in sorted(self.days[day].items())
            if tenant in (None, owner)
        ]


class FileLedger:
    """Usage in memory and, every `interval_s` in which it changed, whole in a file of JSON lines.

    Without a path it is kept in memory only. `wall` is Unix time in seconds.
    """

    def __init__(self, path: Path | None, *, interval_s: float = 2.0, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._interval_s = interval_s
        self._wall = wall
        self._tally = Tally()
        self._changed: set[date] = set()
        self._lines: dict[date, bytes] = {}
        """Each day as it stands in the file: of most, nothing changes any more."""
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._failing = False

    def add(self, day: date, tenant: str, model: str, usage: Used) -> None:
        """See `Ledger.add`."""
        self._tally.add(day, tenant, model, usage)
        self._changed.add(day)

    async def read(self, tenant: str | None, start: date, end: date) -> list[UsageRow]:
        """See `Ledger.read`."""
        return self._tally.rows(tenant, start, end)

    def month_costs(self, day: date) -> dict[str, int]:
        """Micro-dollars by tenant from the first of the month to `day`."""
        costs: dict[str, int] = {}
        for row in self._tally.rows(None, day.replace(day=1), day):
            costs[row.tenant] = costs.get(row.tenant, 0) + row.used.cost
        return costs

    async def start(self) -> None:
        """See `Ledger.start`."""
        if self._path is None:
            return
        for row in _read(self._path):
            self.add(row.day, row.tenant, row.model, row.used)
        try:
            await self._write(self._path)
        except OSError as error:
            raise ConfigError(f"{self._path}: usage cannot be written there ({error.strerror})") from None
        self._writer = asyncio.create_task(self._write_forever(self._path))

    async def close(self) -> None:
        """See `Ledger.close`."""
        self._closing.set()
        if self._writer is not None:
            await self._writer

    async def _write_forever(self, path: Path) -> None:
        closing = False
        while not closing:
            with contextlib.suppress(TimeoutError):
                closing = await asyncio.wait_for(self._closing.wait(), self._interval_s)
            if self._changed:
                try:
                    await self._write(path)
                except OSError as error:
                    self._tell(failing=True, reason=error.strerror or "")
                else:
                    self._tell(failing=False)

    async def _write(self, path: Path) -> None:
        """Write the file. Raises `OSError`, and then what changed is written the next time."""
        changed, self._changed = self._changed, set()
        for day in changed:
            self._lines[day] = b"".join(map(_line, self._tally.rows(None, day, day)))
        self._forget(self._today() - KEPT)
        try:
            await asyncio.to_thread(_replace, path, [self._lines[day] for day in sorted(self._lines)])
        except OSError:
            self._changed |= changed
            raise

    def _forget(self, before: date) -> None:
        for day in [day for day in self._tally.days if day < before]:
            del self._tally.days[day]
            self._lines.pop(day, None)

    def _tell(self, *, failing: bool, reason: str = "") -> None:
        if failing and not self._failing:
            log.error("usage cannot be written and is kept in memory", extra={"file": str(self._path), "why": reason})
        elif self._failing and not failing:
            log.info("usage is written again", extra={"file": str(self._path)})
        self._failing = failing

    def _today(self) -> date:
        return datetime.fromtimestamp(self._wall(), UTC).date()


def _line(row: UsageRow) -> bytes:
    fields = {"day": row.day, "tenant": row.tenant, "model": row.model, **row.used._asdict()}
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _read(path: Path) -> Iterable[UsageRow]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        try:
            fields = orjson.loads(line)
            used = Used(**{name: int(fields[name]) for name in Used._fields})
            yield UsageRow(date.fromisoformat(fields["day"]), str(fields["tenant"]), str(fields["model"]), used)
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{path}: line {number} is not usage as the gateway writes it; mend or move the file"
            ) from None


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    scratch = path.with_suffix(".new")
    with scratch.open("wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
