"""How well a reranker orders the passages of the dev questions, and on what scale its scores are."""

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

from capstan.jobs.evaluate.metrics import documents_of, ndcg
from capstan.jobs.evaluate.stats import randomization_test
from capstan.jobs.reranker.candidates import MODES, Question

_NEWTON_STEPS = 25
_RIDGE = 1e-3  # keeps the slope finite where the classes do not overlap


def order(values: Sequence[float]) -> list[int]:
    """Indexes by falling value; equal ones keep their order."""
    return sorted(range(len(values)), key=lambda index: -values[index])


def supported(logits: Sequence[float], documents: Sequence[str], temperature: float) -> list[float]:
    """Logits with what the other passages of a document add, as `capstan.reranker.support` does."""
    if temperature <= 0:
        return list(logits)
    members: dict[str, list[float]] = {}
    for logit, document in zip(logits, documents, strict=True):
        members.setdefault(document, []).append(logit)
    gains = {
        document: temperature * math.log(sum(math.exp((logit - max(found)) / temperature) for logit in found))
        for document, found in members.items()
    }
    return [logit + gains[document] for logit, document in zip(logits, documents, strict=True)]


def report(
    questions: Sequence[Question], logits: Sequence[Sequence[float]], supports: Sequence[float], seed: int
) -> dict[str, Any]:
    """nDCG@10 of each mode and of the reranker, for each strength of support.

    With the p-value against the better of BM25 and dense search (paired randomization), and the best possible order.
    """
    single = {mode: [_ndcg10(q.found[mode], q) for q in questions] for mode in MODES}
    best = max(("bm25", "dense"), key=lambda mode: fmean(single[mode]))
    result: dict[str, Any] = {"questions": len(questions), "best_single": best}
    result |= {mode: round(fmean(values), 4) for mode, values in single.items()}
    result["reranked"] = []
    for support in supports:
        values = [_reranked(q, found, support) for q, found in zip(questions, logits, strict=True)]
        p = randomization_test(values, single[best], seed=seed)
        row = {"support": support, "ndcg10": round(fmean(values), 4), "p_vs_best_single": round(p, 4)}
        result["reranked"].append(row)
    ideal = [_reranked(q, [float(r) for r in q.relevant], 0.0) for q in questions]
    result["ideal_order"] = round(fmean(ideal), 4)
    return result


def _reranked(question: Question, logits: Sequence[float], support: float) -> float:
    documents = question.found["hybrid"]
    return _ndcg10([documents[i] for i in order(supported(logits, documents, support))], question)


def _ndcg10(chunk_documents: Sequence[str], question: Question) -> float:
    return ndcg(documents_of(chunk_documents), question.gold, 10)


def calibration(questions: Sequence[Question], logits: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Slope and shift of logits (Platt 1999) after which the sigmoid is a probability of relevance.

    Fitted on the dev questions by Newton's method, both classes with the same total weight: 0.5 is a passage that is
    as likely of a gold document as not, if half of all passages were.
    """
    data = [
        (value, relevant)
        for q, values in zip(questions, logits, strict=True)
        for value, relevant in zip(values, q.relevant, strict=True)
    ]
    positives = sum(relevant for _, relevant in data)
    if positives in (0, len(data)):
        return 1.0, 0.0
    values = [value for value, _ in data]
    middle, width = fmean(values), pstdev(values) or 1.0
    weight = {True: 0.5 / positives, False: 0.5 / (len(data) - positives)}
    slope = shift = 0.0
    for _ in range(_NEWTON_STEPS):
        g0, g1, h00, h01, h11 = _RIDGE * slope, 0.0, _RIDGE, 0.0, 1e-9
        for value, relevant in data:
            z = (value - middle) / width
            p = 1 / (1 + math.exp(-(slope * z + shift)))
            error, curve = weight[relevant] * (p - relevant), weight[relevant] * p * (1 - p)
            g0, g1 = g0 + error * z, g1 + error
            h00, h01, h11 = h00 + curve * z * z, h01 + curve * z, h11 + curve
        determinant = h00 * h11 - h01 * h01
        slope, shift = slope - (h11 * g0 - h01 * g1) / determinant, shift - (h00 * g1 - h01 * g0) / determinant
    return slope / width, shift - slope * middle / width
