"""What the checkers say of an arm's answers, and of two arms on the same items."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from capstan.jobs.assistant.checkers import Verdict, check
from capstan.jobs.assistant.items import KINDS, Item
from capstan.jobs.assistant.proportions import Share, detectable, sign_test
from capstan.jobs.evaluate.stats import difference_ci

Answers = Mapping[str, str]
"""An arm's answers by the item's id."""
Verdicts = Mapping[str, Verdict]


def judged(items: Sequence[Item], answers: Answers) -> dict[str, Verdict]:
    """The checkers' verdicts by the item's id."""
    return {item.id: check(item, answers[item.id]) for item in items}


def pass_rate(items: Sequence[Item], verdicts: Verdicts) -> float:
    """Share of the items whose answer passes."""
    return sum(verdicts[item.id].passed for item in items) / len(items)


def scorecard(items: Sequence[Item], answers: Answers, verdicts: Verdicts) -> dict[str, Any]:
    """Pass rate and exact match, over all and by kind; why answers failed; how long they are."""
    return {
        **_shares(items, verdicts),
        "by_kind": {
            kind: _shares(of_kind, verdicts)
            for kind in KINDS
            if (of_kind := [item for item in items if item.kind == kind])
        },
        "failed_by_reason": dict(Counter(v.reason for v in verdicts.values() if not v.passed).most_common()),
        "mean_characters": round(sum(len(answers[item.id]) for item in items) / len(items), 1),
    }


def _shares(items: Sequence[Item], verdicts: Verdicts) -> dict[str, Any]:
    passed = Share(sum(verdicts[item.id].passed for item in items), len(items))
    exact = Share(sum(verdicts[item.id].exact for item in items), len(items))
    return {
        "n": len(items),
        "pass_rate": round(passed.value, 4),
        "pass_ci": passed.interval,
        "exact_rate": round(exact.value, 4),
        "exact_ci": exact.interval,
    }


def compared(items: Sequence[Item], a: Verdicts, b: Verdicts, *, seed: int) -> dict[str, Any]:
    """Pass rates of A less those of B on the same items: McNemar's exact p, a paired bootstrap interval, and power.

    `detectable` is the smallest difference that as many items, of which as many differ, show with 80% power.
    """
    pairs = [(a[item.id].passed, b[item.id].passed) for item in items]
    only_a, only_b = (sum(one and not other for one, other in order) for order in (pairs, [(y, x) for x, y in pairs]))
    one, other = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    low, high = difference_ci(one, other, seed=seed)
    smallest = detectable(len(items), (only_a + only_b) / len(items))
    return {
        "n": len(items),
        "difference": round((only_a - only_b) / len(items), 4),
        "difference_ci": [round(low, 4), round(high, 4)],
        "only_first": only_a,
        "only_second": only_b,
        "p": sign_test(only_a, only_b),
        "detectable": None if smallest is None else round(smallest, 4),
    }
