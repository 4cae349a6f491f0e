"""What the comparisons share: how much is asked, the servers, and turns in rounds."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.llm_bench.client import Target, client
from loadtest.llm_bench.figures import Slo, figures, usd_per_mtok
from loadtest.llm_bench.servers import Servers, gateway, vllm
from loadtest.llm_bench.workload import requests

Cell = dict[str, Any]
SEED = "capstan"


@dataclass(frozen=True)
class Plan:
    """How much is asked."""

    rounds: int
    concurrency: int
    """Of the closed loops that compare arms."""
    waves: int
    """Requests for each of a closed loop's users, in a round."""
    slow_waves: int
    """The same for servers that are an order of magnitude slower."""
    curve: tuple[int, ...]
    """Concurrencies at which one server is measured, for the capacity model."""
    rate_s: float
    """Seconds of one rate of a sweep."""
    rate_requests: int
    """Requests of one rate, at least: a p99 of a few says nothing."""
    halvings: int
    """Times that a sweep halves the distance between a rate that holds and one that does not."""
    long_answers: int
    """Requests of the comparison with ShareGPT's lengths."""

    def requests_at(self, rate: float) -> int:
        """Requests of a rate of a sweep."""
        return max(self.rate_requests, round(rate * self.rate_s))


FULL = Plan(
    rounds=5,
    concurrency=32,
    waves=4,
    slow_waves=1,
    curve=(1, 2, 4, 8, 16, 32),
    rate_s=60.0,
    rate_requests=50,
    halvings=4,
    long_answers=64,
)
QUICK = Plan(
    rounds=1,
    concurrency=4,
    waves=1,
    slow_waves=1,
    curve=(1, 4),
    rate_s=4.0,
    rate_requests=4,
    halvings=1,
    long_answers=4,
)


@dataclass(frozen=True)
class Arm:
    """A server and the load it gets, by name."""

    name: str
    server: str
    concurrency: int
    requests: int
    shape: str = "random"
    processes: tuple[str, ...] = ()
    """Whose memory counts; by default the server's own."""


@dataclass
class Bench:
    """One invocation."""

    directory: Path
    servers: Servers
    plan: Plan
    slo: Slo
    usd_per_hour: float
    key: str
    say: Callable[[str], None]
    quick: bool
    done: Mapping[str, Any] = field(default_factory=dict)
    """Comparisons that were measured before this one."""

    async def base(self) -> None:
        """Start vLLM, and the gateway before it, for all comparisons of this invocation."""
        if "vllm" not in self.servers.targets:
            self.say("starting vLLM and the gateway before it")
            await self.servers.start(vllm("vllm"))
            worker = self.servers.targets["vllm"].url
            await self.servers.start(gateway("gateway", self.directory, [worker]), key=self.key)

    def arm(self, name: str, server: str = "", **settings: Any) -> Arm:
        """An arm with the plan's concurrency and number of requests, where `settings` do not say otherwise."""
        concurrency = settings.setdefault("concurrency", self.plan.concurrency)
        settings.setdefault("requests", max(4, concurrency * self.plan.waves))
        return Arm(name, server or name, **settings)

    async def rounds(self, arms: Sequence[Arm], *, number: int = 0) -> dict[str, Any]:
        """Each arm's turn in each round, every other round in reverse, so that a drifting machine treats all alike.

        An arm begins with a turn that does not count. Returns cells, and for each arm the medians over the rounds.
        """
        for arm in arms:
            await self._turn(arm, 0, max(1, arm.concurrency // 8))
        cells: list[Cell] = []
        for turn in range(1, (number or self.plan.rounds) + 1):
            for arm in arms if turn % 2 else arms[::-1]:
                found = await self._turn(arm, turn, arm.requests)
                cells.append({"arm": arm.name, "round": turn, **found})
                self.say(line(cells[-1]))
        return {"arms": {arm.name: self._summary(arm, cells) for arm in arms}, "cells": cells}

    async def _turn(self, arm: Arm, turn: int, number: int) -> Cell:
        asked = requests(arm.shape, number, f"{SEED} {turn}", f"{arm.name} {arm.concurrency}")
        async with client(self.servers.targets[arm.server]) as sender:
            samples = await sender.closed_loop(asked, arm.concurrency)
        return {"concurrency": arm.concurrency, "shape": arm.shape, **figures(samples, self.slo)}

    def _summary(self, arm: Arm, cells: Sequence[Cell]) -> Cell:
        own = [cell for cell in cells if cell["arm"] == arm.name]
        found = medians(own)
        memory = sum(self.servers.memory_mb(name) for name in arm.processes or (arm.server,))
        cost = usd_per_mtok(self.usd_per_hour, found["tok_s"])
        return {**found, "usd_per_mtok": cost, "memory_mb": round(memory, 1)}

    def target(self, server: str) -> Target:
        """Where a server is."""
        return self.servers.targets[server]


def medians(cells: Sequence[Cell]) -> Cell:
    """Medians over cells of one arm; failures, left and short answers are summed."""
    summed = ("left", "short_answers", "requests", "completed")
    found: Cell = {}
    for name, first in cells[0].items():
        values = [cell[name] for cell in cells]
        if name in ("arm", "round"):
            continue
        if name == "failures":
            found[name] = dict(sum((Counter(value) for value in values), Counter[str]()))
        elif isinstance(first, dict):
            found[name] = medians(values)
        elif isinstance(first, str):
            found[name] = first
        elif name in summed:
            found[name] = sum(values)
        else:
            known = [value for value in values if value is not None]
            found[name] = round(statistics.median(known), 4) if known else None
    return found


def paired_ratio(cells: Sequence[Cell], arm: str, other: str, figure: str = "tok_s") -> float | None:
    """Median over the rounds of `arm`'s figure over `other`'s in the same round."""
    values = {(cell["arm"], cell["round"]): cell[figure] for cell in cells}
    ratios = [values[arm, r] / values[other, r] for a, r in values if a == arm and values.get((other, r))]
    return round(statistics.median(ratios), 4) if ratios else None


def line(cell: Cell) -> str:
    """A cell in one line, for progress."""
    load = f"concurrency {cell['concurrency']}" if "concurrency" in cell else f"{cell['rate']:.2f}/s"
    failed = f"  FAILED {cell['failures']}" if cell["failures"] else ""
    ttft, tpot = cell["ttft_ms"], cell["tpot_ms"]
    who = f"round {cell['round']}  {cell['arm']:<16}" if "arm" in cell else ""
    return (
        f"{who} {load:<15} {cell['tok_s']:8.1f} tok/s   TTFT p50 {shown(ttft['p50'])} p99 {shown(ttft['p99'])}   "
        f"TPOT p50 {shown(tpot['p50'])} p99 {shown(tpot['p99'])} ms{failed}"
    )


def shown(value: float | None) -> str:
    """A time in a column."""
    return f"{'-':>8}" if value is None else f"{value:8.1f}"
