"""Shares of counted things that come in questions: sentences, citations, abstentions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Ratio:
    """`hits` of `n`. `low` and `high` bound the share with 95% (None where nothing was counted)."""

    hits: int
    n: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """The share, or None: nothing of nothing is not a number."""
        return self.hits / self.n if self.n else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `value`, `ci95`, `hits`, `n`."""
        value = None if self.value is None else round(self.value, 4)
        bounds = None if self.low is None or self.high is None else [round(self.low, 4), round(self.high, 4)]
        return {"value": value, "ci95": bounds, "hits": self.hits, "n": self.n}


def ratio(per_question: Sequence[tuple[int, int]], *, seed: int, resamples: int = RESAMPLES) -> Ratio:
    """The share of (hits, n) summed over questions, with a percentile bootstrap over questions.

    Sentences of one answer are not independent of each other, so whole questions are drawn.
    """
    counts = np.asarray(per_question, dtype=np.float64).reshape(-1, 2)
    hits, n = (int(total) for total in counts.sum(axis=0))
    if not n:
        return Ratio(hits, n, None, None)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=resamples) @ counts
    shares = drawn[drawn[:, 1] > 0]
    low, high = np.quantile(shares[:, 0] / shares[:, 1], [0.025, 0.975])
    return Ratio(hits, n, float(low), float(high))
