"""Figures of both sides, their ratios, and the table that people read."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from capstan.jobs.evaluate.metrics import ndcg
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.results import markdown_table
from capstan.jobs.evaluate.stats import bootstrap_ci, difference_ci, randomization_test
from loadtest.rag_bench.ours import Found

SIDES = ("capstan", "llamaindex")


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50 and p95, in milliseconds."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2)}


def cell(questions: Sequence[Question], found: Sequence[Found], seed: int) -> dict[str, Any]:
    """One side in one arm: quality over the questions, and times of its stages and of the whole."""
    scores = [ndcg(f.documents, q.documents, 10) for q, f in zip(questions, found, strict=True)]
    low, high = bootstrap_ci(scores, seed=seed)
    stages = {stage: percentiles([f.ms[stage] for f in found]) for stage in found[0].ms}
    whole = percentiles([f.ms["retrieve"] + f.ms["rerank"] for f in found])
    return {
        "n": len(scores),
        "ndcg10": round(statistics.fmean(scores), 4),
        "ci95": [round(low, 4), round(high, 4)],
        "ms": whole,
        "stages_ms": stages,
        "scores": [round(score, 4) for score in scores],
    }


def compare(ours: Mapping[str, Any], peer: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Ours against the peer's. Ratios of time: below 1 is faster."""
    a, b = ours["scores"], peer["scores"]
    low, high = difference_ci(a, b, seed=seed)
    return {
        "p50_ratio": round(ours["ms"]["p50"] / peer["ms"]["p50"], 3),
        "p95_ratio": round(ours["ms"]["p95"] / peer["ms"]["p95"], 3),
        "ndcg10_difference": round(ours["ndcg10"] - peer["ndcg10"], 4),
        "ndcg10_difference_ci95": [round(low, 4), round(high, 4)],
        "p": round(randomization_test(a, b, seed=seed), 5),
    }


def table(arms: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterable[str]:
    """The lines of the table."""
    yield f"{'arm':<16}{'side':<12}{'nDCG@10':>9}{'95% CI':>18}{'p50 ms':>10}{'p95 ms':>10}"
    for arm, sides in arms.items():
        for side in SIDES:
            if side in sides:
                one = sides[side]
                bounds = f"[{one['ci95'][0]:.3f}, {one['ci95'][1]:.3f}]"
                times = f"{one['ms']['p50']:>10.1f}{one['ms']['p95']:>10.1f}"
                yield f"{arm:<16}{side:<12}{one['ndcg10']:>9.3f}{bounds:>18}{times}"


def markdown(arms: Mapping[str, Mapping[str, Mapping[str, Any]]], against: Mapping[str, Mapping[str, Any]]) -> str:
    """The same for the report, with our side against the peer's."""
    head = (
        "arm",
        "side",
        "nDCG@10",
        "95% CI",
        "p50 ms",
        "p95 ms",
        "p50, ours to theirs",
        "nDCG@10, ours less theirs",
        "p",
    )
    rows = []
    for arm, sides in arms.items():
        for side, one in sides.items():
            compared = against.get(arm) if side == SIDES[0] else None
            rows.append(
                [
                    arm,
                    side,
                    f"{one['ndcg10']:.3f}",
                    f"{one['ci95'][0]:.3f} to {one['ci95'][1]:.3f}",
                    f"{one['ms']['p50']:.1f}",
                    f"{one['ms']['p95']:.1f}",
                    f"{compared['p50_ratio']:.2f}" if compared else "",
                    f"{compared['ndcg10_difference']:+.3f}" if compared else "",
                    f"{compared['p']:.4f}" if compared else "",
                ]
            )
    return markdown_table(head, rows)
