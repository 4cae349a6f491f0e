"""Faults of a soak, and which failures each of them explains."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.llm_bench.client import Sample

SETTLE_S = 30.0
"""How long after a part is back its fault may still be felt: the queue of that time is worked off."""
CAPACITY = ("503",)
"""Refusals of a gateway that has fewer workers than the load needs."""
BROKEN = ("broke off", "error event", "502", *CAPACITY)
"""What a killed worker's own requests come to."""


@dataclass(frozen=True)
class Kind:
    """What is done, when (as a part of the soak's time), and how the outcomes that it may bring about begin."""

    name: str
    at: float
    explains: tuple[str, ...]


KINDS = (
    Kind("worker restarted", 0.15, CAPACITY),  # it drains: what runs there ends well
    Kind("worker killed", 0.35, BROKEN),
    Kind("Redis restarted", 0.55, ()),  # limits become local meanwhile: nobody may notice
    Kind("burst of disconnects", 0.75, ()),
)


@dataclass(frozen=True)
class Fault:
    """A fault that was made: seconds of the soak from its beginning until the part was back."""

    kind: Kind
    began: float
    ended: float

    def explains(self, sample: Sample) -> bool:
        """Whether a failure is of this kind, and its request was under way meanwhile."""
        meanwhile = sample.due <= self.ended + SETTLE_S and sample.ended >= self.began
        return meanwhile and sample.outcome.startswith(self.kind.explains)


def explain(samples: Iterable[Sample], faults: Sequence[Fault]) -> dict[str, Any]:
    """Failures by the fault that explains them, and those that none does."""
    explained: defaultdict[str, Counter[str]] = defaultdict(Counter)
    unexplained = []
    for sample in samples:
        if sample.outcome in ("completed", "left"):
            continue
        fault = next((fault for fault in faults if fault.explains(sample)), None)
        if fault:
            explained[fault.kind.name][sample.outcome] += 1
        else:
            unexplained.append({"at_s": round(sample.due, 1), "outcome": sample.outcome})
    return {
        "explained": {fault.kind.name: dict(explained[fault.kind.name]) for fault in faults},
        "unexplained": len(unexplained),
        "unexplained_first": unexplained[:20],
    }
