"""Memory of the soak's processes over its time."""

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FLAT_MB, FLAT_PART = 10.0, 0.05
"""Growth that counts as none: the greater of both."""
_WARM_UP = 0.25
"""Part of a process's time that is not looked at: caches fill."""


@dataclass
class Memory:
    """Samples of each process; a process that was started again is another one."""

    of: Mapping[str, Callable[[], tuple[int, float]]]
    """By name: process id and memory in MB."""
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By name and process id: second, MB."""

    async def watch(self, every_s: float) -> None:
        """Look every so many seconds, until cancelled."""
        began = time.monotonic()
        while True:
            for name, look in self.of.items():
                try:
                    pid, mb = look()
                except KeyError:  # it is being started again
                    continue
                if mb:
                    self.samples.setdefault(f"{name} ({pid})", []).append((round(time.monotonic() - began, 1), mb))
            await asyncio.sleep(every_s)

    def table(self) -> list[dict[str, Any]]:
        """For each process: seconds, first and last MB, growth of its last third over the third after the warm-up."""
        rows = []
        for number, (name, samples) in enumerate(self.samples.items()):
            grown = growth([mb for _, mb in samples])
            (began, first), (ended, last) = samples[0], samples[-1]
            rows.append(
                {
                    "process": name.split(" (")[0],
                    "incarnation": sum(
                        other.split(" (")[0] == name.split(" (")[0] for other in list(self.samples)[: number + 1]
                    ),
                    "from_s": began,
                    "to_s": ended,
                    "first_mb": first,
                    "last_mb": last,
                    "growth_mb": grown,
                    "flat": grown is None or grown <= max(FLAT_MB, FLAT_PART * first),
                    "curve_mb": [mb for _, mb in samples[:: max(1, len(samples) // 30)]],
                }
            )
        return rows


def growth(values: list[float]) -> float | None:
    """Mean of the last third less that of the first third after the warm-up; None of too few values."""
    settled = values[int(len(values) * _WARM_UP) :]
    third = len(settled) // 3
    if not third:
        return None
    return round(statistics.fmean(settled[-third:]) - statistics.fmean(settled[:third]), 1)
