"""Metrics over samples: rows on disk, failures counted, nothing imputed. Knows nothing of ragas itself."""

import asyncio
import math
import random
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from capstan.jobs.evaluate.rows import Rows

OF_THE_ANSWER = frozenset({"faithfulness", "answer_relevancy", "semantic_similarity", "quoted_spans_alignment"})
"""Metrics that say nothing of an answer that is not given."""

Sample = Mapping[str, Any]
Score = Callable[[Sample], Awaitable[float]]


class NotApplicable(Exception):
    """This sample has nothing that the metric measures."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one sample: a value, or why there is none."""

    value: float | None
    failed: str | None = None
    not_applicable: bool = False


class Scores:
    """The rows so far, on disk. `again` forgets those that failed."""

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self._rows = Rows(path)
        self._again = again

    def get(self, metric: str, key: str) -> Row | None:
        """A row that is there already."""
        kept = self._rows.get(f"{metric} {key}")
        return Row(**kept) if kept else None

    def missing(self, metric: str, key: str) -> bool:
        """Whether the metric of a sample is still to be scored."""
        row = self.get(metric, key)
        return row is None or (self._again and row.failed is not None)

    def add(self, metric: str, key: str, row: Row) -> None:
        """Keep a row, on disk at once."""
        self._rows.put(f"{metric} {key}", asdict(row))


async def run(
    metrics: Mapping[str, Score], samples: Sequence[Sample], rows: Scores, *, workers: int, timeout_s: float
) -> None:
    """Score what is missing, `workers` at a time. A metric that fails or takes too long is a failed row."""
    slots = asyncio.Semaphore(workers)

    async def one(name: str, sample: Sample) -> None:
        async with slots:
            rows.add(name, sample["key"], await _row(metrics[name], sample, timeout_s))

    async with asyncio.TaskGroup() as group:
        for sample in samples:
            for name in metrics:
                skip = sample["abstained"] and name in OF_THE_ANSWER
                if not skip and rows.missing(name, sample["key"]):
                    group.create_task(one(name, sample))


async def _row(metric: Score, sample: Sample, timeout_s: float) -> Row:
    try:
        value = await asyncio.wait_for(metric(sample), timeout_s)
    except NotApplicable:
        return Row(None, not_applicable=True)
    except TimeoutError:
        return Row(None, failed="timeout")
    except Exception as error:  # a judge's answer breaks in many ways, and each is a failed row, not the end
        return Row(None, failed=reason(error))
    return Row(None, failed="not a number") if math.isnan(value) else Row(float(value))


def reason(error: Exception) -> str:
    """A word or two for a table: the kind of error, with what instructor wrapped into it."""
    text = str(error)
    if "maximum context length" in text or ("max_tokens" in text and "context" in text):
        return "the prompt is longer than the judge's context"
    if "validation error" in text or "Invalid JSON" in text or "max_tokens length limit" in text:
        return "the judge's answer is not the JSON that was asked for"
    return type(error).__name__


def summary(names: Iterable[str], samples: Sequence[Sample], rows: Scores, *, seed: int) -> dict[str, Any]:
    """Each metric's mean with its counts."""
    return {name: _summarised(name, samples, rows, seed) for name in names}


def _summarised(name: str, samples: Sequence[Sample], rows: Scores, seed: int) -> dict[str, Any]:
    asked = [s for s in samples if not (s["abstained"] and name in OF_THE_ANSWER)]
    found = [row for s in asked if (row := rows.get(name, s["key"]))]
    values = [row.value for row in found if row.value is not None]
    failures = Counter(row.failed for row in found if row.failed is not None)
    return {
        "value": round(statistics.fmean(values), 4) if values else None,
        "ci95": _interval(values, seed),
        "n": len(samples),
        "n_scored": len(values),
        "n_failed": sum(failures.values()),
        "n_abstained": len(samples) - len(asked),
        "n_not_applicable": sum(row.not_applicable for row in found),
        "failures": dict(failures),
    }


def _interval(values: Sequence[float], seed: int, resamples: int = 2000) -> list[float] | None:
    """Percentile bootstrap interval of the mean, 95%."""
    if len(values) < 2:
        return None
    draw = random.Random(seed)  # noqa: S311 - a bootstrap, not a secret
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(resamples))
    return [round(means[int(0.025 * resamples)], 4), round(means[int(0.975 * resamples) - 1], 4)]
