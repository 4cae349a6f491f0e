"""Figures of one load."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.overload.client import Call

REFUSED = (429, 503)


@dataclass(frozen=True)
class Figures:
    """What the requests that arrived between two moments met with, and how many were served well in that time."""

    offered_rps: float
    goodput_rps: float
    """Requests completed in that time, their first token within the SLO, per second."""
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    """Of accepted requests: all but refused ones. One that was cut off before it began counts with the time it had
    waited, so this is a lower bound where there are any."""
    refusal_p50_ms: float | None
    refusal_p99_ms: float | None
    send_lag_p99_ms: float
    """How late the load generator itself was."""
    outcomes: dict[str, int]
    cpu_cores: dict[str, float]
    """Cores used by each part, over the whole load."""

    def __str__(self) -> str:
        """A line for a table."""
        outcomes = ", ".join(f"{number} {word}" for word, number in self.outcomes.items())
        return (
            f"{self.offered_rps:8.1f} {self.goodput_rps:8.1f} {_ms(self.ttft_p50_ms)} {_ms(self.ttft_p99_ms)} "
            f"{_ms(self.refusal_p99_ms)}   {outcomes}"
        )

    def json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


HEADING = f"{'offered/s':>8} {'good/s':>7} {'TTFT p50':>8} {'p99 ms':>8} {'refusal':>8}   outcomes"


def figures(calls: Sequence[Call], start: float, end: float, slo_s: float, cpu_cores: dict[str, float]) -> Figures:
    """Figures of the calls that arrived from `start` to `end` (seconds of the load)."""
    window = [call for call in calls if start <= call.arrival.at < end]
    accepted = [call for call in window if call.status == 200 or call.outcome == "unfinished"]
    refused = [call for call in window if call.status in REFUSED]
    # By their end: what fills an empty engine and queue at first has arrived, but is not yet work done.
    done = [call for call in calls if call.outcome == "completed" and start <= call.ended < end]
    good = [call for call in done if call.ttft <= slo_s]
    return Figures(
        offered_rps=round(len(window) / (end - start), 2),
        goodput_rps=round(len(good) / (end - start), 2),
        ttft_p50_ms=percentile_ms((call.ttft for call in accepted), 50),
        ttft_p99_ms=percentile_ms((call.ttft for call in accepted), 99),
        refusal_p50_ms=percentile_ms((call.duration for call in refused), 50),
        refusal_p99_ms=percentile_ms((call.duration for call in refused), 99),
        send_lag_p99_ms=percentile_ms((call.sent - call.arrival.at for call in window), 99) or 0.0,
        outcomes=dict(Counter(call.outcome for call in window).most_common()),
        cpu_cores=cpu_cores,
    )


def percentile_ms(seconds: Iterable[float], percent: float) -> float | None:
    """The nearest-rank percentile in milliseconds, None of nothing."""
    ordered = sorted(seconds)
    if not ordered:
        return None
    rank = max(0, -(-len(ordered) * percent // 100) - 1)
    return round(ordered[int(rank)] * 1000, 2)


def _ms(value: float | None) -> str:
    return f"{value:8.1f}" if value is not None else f"{'-':>8}"
