"""Which of two arms answers better, prompt by prompt: by the checkers, then by nearness to the reference, or a tie."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.proportions import Share, sign_test
from capstan.jobs.assistant.scores import Answers, Verdicts
from capstan.jobs.assistant.similarity import similarity
from capstan.jobs.evaluate.stats import randomization_test

Floats = NDArray[np.float64]
By = Literal["checker", "similarity", "tie", "judge"]
_PRIOR = 1 / 25.0
"""Precision of the normal prior (standard deviation 5) on both coefficients: finite even if one arm always wins."""
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """A pair: 1 if the first arm wins, 0 if the second, 1/2 for a tie; what decided; how much longer the first is."""

    won: float
    by: By
    longer: int


def outcome(item: Item, first: str, second: str, passed: tuple[bool, bool], margin: float) -> Outcome:
    """The winner of two answers to an item. The answers' roles are symmetric."""
    longer = len(first) - len(second)
    if passed[0] != passed[1]:
        return Outcome(float(passed[0]), "checker", longer)
    nearer = similarity(first, item.reference) - similarity(second, item.reference)
    if abs(nearer) < margin or not nearer:
        return Outcome(0.5, "tie", longer)
    return Outcome(float(nearer > 0), "similarity", longer)


def outcomes(
    items: Sequence[Item], first: tuple[Answers, Verdicts], second: tuple[Answers, Verdicts], margin: float
) -> list[Outcome]:
    """The pairs of two arms, in the items' order."""
    (a, on_a), (b, on_b) = first, second
    return [outcome(i, a[i.id], b[i.id], (on_a[i.id].passed, on_b[i.id].passed), margin) for i in items]


def win_rate(found: Sequence[Outcome], *, seed: int) -> dict[str, Any]:
    """Wins and half the ties as a share, with Wilson's interval, the sign test's p, and the length-controlled share."""
    wins, losses = (sum(pair.won == value for pair in found) for value in (1.0, 0.0))
    share = Share(sum(pair.won for pair in found), len(found))
    won, longer = np.array([pair.won for pair in found]), np.array([float(pair.longer) for pair in found])
    low, high = _controlled_interval(won, longer, seed)
    return {
        "n": len(found),
        "wins": wins,
        "ties": len(found) - wins - losses,
        "losses": losses,
        "win_rate": round(share.value, 4),
        "win_ci": share.interval,
        "p": sign_test(wins, losses),
        "decided_by": dict(Counter(pair.by for pair in found)),
        "lc_win_rate": round(float(length_controlled(won, longer)), 4),
        "lc_win_ci": [round(low, 4), round(high, 4)],
        "longer_by_characters": round(float(longer.mean()), 1),
    }


def step(first: Sequence[Outcome], second: Sequence[Outcome], *, seed: int) -> dict[str, float]:
    """Two arms' win rates over the same third one, on the same prompts: difference, and p of a randomization test."""
    a, b = [pair.won for pair in first], [pair.won for pair in second]
    return {"difference": round(float(np.mean(a) - np.mean(b)), 4), "p": randomization_test(a, b, seed=seed)}


def length_controlled(won: Floats, longer: Floats) -> Floats:
    """The win rate that a logistic model expects of answers of equal length (Dubois et al. 2024, without its term for
    the instruction, which needs many models): logit P(win) = a + b tanh(length difference / its standard deviation).

    `won`, `longer`: [..., pairs]; one rate for each row.
    """
    scale = longer.std(axis=-1, keepdims=True)
    x = np.tanh(longer / np.where(scale > 0, scale, 1.0))
    a, b = np.zeros(won.shape[:-1]), np.zeros(won.shape[:-1])
    for _ in range(50):  # Newton; the prior makes the problem strictly concave
        expected = _sigmoid(a[..., None] + b[..., None] * x)
        missing, spread = won - expected, expected * (1 - expected)
        gradient_a, gradient_b = missing.sum(-1) - _PRIOR * a, (missing * x).sum(-1) - _PRIOR * b
        aa, ab, bb = spread.sum(-1) + _PRIOR, (spread * x).sum(-1), (spread * x * x).sum(-1) + _PRIOR
        determinant = aa * bb - ab * ab
        step_a = (bb * gradient_a - ab * gradient_b) / determinant
        step_b = (aa * gradient_b - ab * gradient_a) / determinant
        largest = np.maximum(np.abs(step_a), np.abs(step_b))
        a, b = a + step_a / np.maximum(1.0, largest), b + step_b / np.maximum(1.0, largest)
        if largest.max() < 1e-9:
            break
    return _sigmoid(a)


def _controlled_interval(won: Floats, longer: Floats, seed: int) -> tuple[float, float]:
    """Percentile bootstrap over prompts, 95%."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(won), size=(_RESAMPLES, len(won)))
    low, high = np.quantile(length_controlled(won[drawn], longer[drawn]), [0.025, 0.975])
    return float(low), float(high)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))
