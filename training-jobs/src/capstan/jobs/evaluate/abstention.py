"""Does the service abstain where the documents hold no answer, and only there?

A question asked without its gold documents (`withheld`) is unanswerable, asked as it is (`given`) it is
answerable. Labels are sparse: now and then another document answers a withheld question too, and a gold
document may not have been found for a given one. Both count against the service here.

Precision depends on how many of the questions are unanswerable, so it is given over all questions and
over the pairs: those asked both ways, one to one.

`by_evidence` asks the fairer question of what the generator can know: there a question counts as unanswerable
if no gold passage is among its evidence, whether it was withheld or the search did not find it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from capstan.jobs.evaluate.asking import Answer
from capstan.jobs.evaluate.ratios import ratio

Gold = Mapping[str, AbstractSet[str]]
"""Gold documents by question id."""
Unanswerable = Callable[[Answer], bool]

PRECISION_WANTED = 0.85
"""On dev: a little more than the 0.8 that is wanted of the test split."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A question's best reranker score under one condition."""

    id: str
    unanswerable: bool
    relevance: float


def withheld(answer: Answer) -> bool:
    """Its gold documents were out of reach."""
    return answer.condition == "withheld"


def without_evidence(gold: Gold) -> Unanswerable:
    """No gold document is among its passages."""
    return lambda answer: gold[answer.id].isdisjoint(p["document_id"] for p in answer.passages)


def score(answers: Iterable[Answer], gold: Gold, *, seed: int) -> dict[str, Any]:
    """Precision and recall of abstention: over all questions, over those asked both ways, and by evidence."""
    rows = list(answers)
    usable = [a for a in rows if a.error is None]
    both = asked_both_ways(usable)
    pairs = [a for a in usable if a.id in both]
    return {
        "n": len(rows),
        "n_scored": len(usable),
        "n_failed": len(rows) - len(usable),
        "n_abstained": sum(a.abstained for a in usable),
        **_shares(usable, withheld, seed),
        "pairs": {"questions": len(both), **_shares(pairs, withheld, seed)},
        "by_evidence": _shares(usable, without_evidence(gold), seed),
    }


def _shares(answers: Sequence[Answer], unanswerable: Unanswerable, seed: int) -> dict[str, Any]:
    """Each as a share over questions: a question's two conditions are drawn together."""
    rows: dict[str, list[Answer]] = {}
    for answer in answers:
        rows.setdefault(answer.id, []).append(answer)

    def share(hit: Unanswerable, of: Unanswerable) -> dict[str, Any]:
        counts = [(sum(hit(a) and of(a) for a in found), sum(map(of, found))) for found in rows.values()]
        return ratio(counts, seed=seed).as_dict()

    def abstained(answer: Answer) -> bool:
        return answer.abstained

    return {
        "precision": share(unanswerable, abstained),
        "recall": share(abstained, unanswerable),
        "false_abstention": share(abstained, lambda answer: not unanswerable(answer)),
    }


def scores(answers: Iterable[Answer], unanswerable: Unanswerable = withheld) -> list[Scored]:
    """The best reranker scores; an answer without one (the reranker was down) is left out."""
    return [
        Scored(a.id, unanswerable(a), float(a.details["relevance"]))
        for a in answers
        if a.error is None and a.details.get("relevance") is not None and a.details.get("reranked", True)
    ]


def auroc(rows: Sequence[Scored]) -> float | None:
    """How often an answerable question scores higher than an unanswerable one (ties count half)."""
    low = [row.relevance for row in rows if row.unanswerable]
    high = [row.relevance for row in rows if not row.unanswerable]
    if not low or not high:
        return None
    won = sum((h > l) + (h == l) / 2 for h in high for l in low)  # noqa: E741
    return won / (len(low) * len(high))


def curve(rows: Sequence[Scored]) -> list[dict[str, float]]:
    """What each threshold would do: one row a distinct score, abstaining below it."""
    unanswerable = sum(row.unanswerable for row in rows)
    answerable = len(rows) - unanswerable
    points: list[dict[str, float]] = []
    for threshold in sorted({row.relevance for row in rows}):
        below = [row for row in rows if row.relevance < threshold]
        right = sum(row.unanswerable for row in below)
        if below:
            points.append(
                {
                    "min_relevance": threshold,
                    "abstained": len(below),
                    "precision": right / len(below),
                    "recall": right / unanswerable if unanswerable else 0.0,
                    "false_abstention": (len(below) - right) / answerable if answerable else 0.0,
                }
            )
    return points


def recommend(points: Sequence[dict[str, float]], precision: float = PRECISION_WANTED) -> dict[str, float] | None:
    """The threshold with the greatest recall among those that are precise enough; None if none is."""
    good = [point for point in points if point["precision"] >= precision]
    return max(good, key=lambda point: (point["recall"], -point["min_relevance"]), default=None)


def calibrate(rows: Sequence[Scored], precision: float = PRECISION_WANTED) -> dict[str, Any]:
    """Threshold, AUROC and the curve, thinned to about twenty rows. For the dev split only.

    The threshold is put half way to the next lower score, so that it does not sit on a question's own score.
    """
    points = curve(rows)
    best = recommend(points, precision)
    area = auroc(rows)
    return {
        "answerable": sum(not row.unanswerable for row in rows),
        "unanswerable": sum(row.unanswerable for row in rows),
        "auroc": None if area is None else round(area, 4),
        "wanted_precision": precision,
        "recommended": None if best is None else {**_rounded(best), "min_relevance": _between(rows, best)},
        "curve": [_rounded(point) for point in points[:: max(1, len(points) // 20)]],
    }


def _between(rows: Sequence[Scored], point: dict[str, float]) -> float:
    at = point["min_relevance"]
    below = max(row.relevance for row in rows if row.relevance < at)
    return round((below + at) / 2, 6)


def asked_both_ways(answers: Sequence[Answer]) -> set[str]:
    """Questions that were asked as they are and with their documents withheld."""
    given = {a.id for a in answers if a.condition == "given"}
    return given & {a.id for a in answers if a.condition == "withheld"}


def _rounded(point: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in point.items()}
