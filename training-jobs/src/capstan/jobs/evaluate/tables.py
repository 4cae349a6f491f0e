"""The retrieval results as tables."""

from collections.abc import Mapping
from typing import Any

from capstan.jobs.evaluate.metrics import BUCKETS
from capstan.jobs.evaluate.results import markdown_table

_HEAD = ("arm", "nDCG@10", "95% CI", "recall@5", "recall@10", "MRR", "success@1", "context precision", "evidence words")
_LABELS = {"rank1": "first", "top10": "2 to 10", "top100": "11 to 100", "lost": "not found"}


def scores_table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """All metrics of all arms, and where the first gold document was."""
    head = [*_HEAD, *(_LABELS[name] for name in BUCKETS), "p vs best single"]
    rows = [
        [
            name,
            _score(entry["ndcg10"]),
            _interval(entry["ci95"]),
            *(
                _score(entry[metric])
                for metric in ("recall5", "recall10", "mrr", "success1", "context_precision", "evidence_words")
            ),
            *(str(entry["buckets"][bucket]) for bucket in BUCKETS),
            _p(entry["p_vs_best_single"]),
        ]
        for name, entry in entries.items()
    ]
    return markdown_table(head, rows)


def ablation_table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Each change against its base."""
    head = ["change", "arm", "against", "nDCG@10", "difference", "95% CI", "p", "p (Holm)", "better / equal / worse"]
    rows = [
        [
            entry["change"],
            name,
            entry["base"],
            _score(entry["ndcg10"]),
            f"{compared['difference']:+.3f}",
            _interval(compared["ci95"], signed=True),
            _p(compared["p"]),
            _p(entry["p_holm"]),
            f"{compared['better']} / {compared['equal']} / {compared['worse']}",
        ]
        for name, entry in entries.items()
        if (compared := entry.get("vs_base"))
    ]
    return markdown_table(head, rows)


def _score(value: float) -> str:
    return f"{value:.3f}"


def _interval(ends: list[float], *, signed: bool = False) -> str:
    low, high = ends
    return f"{low:+.3f} to {high:+.3f}" if signed else f"{low:.3f} to {high:.3f}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"
