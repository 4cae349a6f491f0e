"""Support: passages of one document that are relevant make each other more so.

A question is rarely answered by one passage alone, and a document of which several passages fit is the better place to
look than one with a single match by chance. With logits l, a passage of group g scores

    l + t * log(sum over passages j of g of exp((l_j - m) / t)),   m the best logit of g

so that the best passage of a group stands for t * logsumexp(l / t) of all of it, a soft sum of its passages
(aggregation of passage scores, as SumP in Dai and Callan 2019; MaxP is the limit of t = 0). A passage without company
keeps its score.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

_EDGE = 1e-6


def supported(scores: Sequence[float], groups: Sequence[str | None], temperature: float) -> list[float]:
    """Scores (0..1) with the support of the same group; `temperature` is in logits, 0 is no support."""
    if temperature <= 0:
        return list(scores)
    logits = [_logit(score) for score in scores]
    members: dict[str, list[float]] = defaultdict(list)
    for logit, group in zip(logits, groups, strict=True):
        if group is not None:
            members[group].append(logit)
    gains = {group: _gain(found, temperature) for group, found in members.items() if len(found) > 1}
    return [
        _sigmoid(logit + gains[group]) if group in gains else score
        for score, logit, group in zip(scores, logits, groups, strict=True)
    ]


def _gain(logits: Sequence[float], temperature: float) -> float:
    best = max(logits)
    return temperature * math.log(sum(math.exp((logit - best) / temperature) for logit in logits))


def _logit(score: float) -> float:
    score = min(max(score, _EDGE), 1 - _EDGE)
    return math.log(score / (1 - score))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
