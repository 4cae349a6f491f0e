"""Significance and intervals for per-question scores. All randomness comes from the seed that is passed in."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 20_000
RESAMPLES = 10_000
_BLOCK = 500
_TIE = 1e-12

Scores = Sequence[float]


def randomization_test(a: Scores, b: Scores, *, seed: int, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p of Fisher's paired randomization test for a difference of means (Smucker et al. 2007).

    The null hypothesis is that the arms are the same, so that each question's two scores could be swapped. The observed
    assignment counts as one permutation (Phipson & Smyth 2010), so p is at least 1 / (permutations + 1).
    """
    differences = _paired(a, b)
    observed = abs(float(differences.mean()))
    generator = np.random.default_rng(seed)
    as_extreme = 0
    for start in range(0, permutations, _BLOCK):
        rows = min(_BLOCK, permutations - start)
        signs = generator.integers(0, 2, size=(rows, len(differences))) * 2 - 1
        means = np.abs((signs * differences).mean(axis=1))
        as_extreme += int((means >= observed - _TIE).sum())
    return (as_extreme + 1) / (permutations + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (1979): p values that may be compared with the level one by one."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for done, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - done) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def bootstrap_ci(scores: Scores, *, seed: int, level: float = 0.95, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979): questions drawn with replacement."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        raise ValueError("no scores: there is no mean to put an interval around")
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[generator.integers(0, len(values), size=(min(_BLOCK, resamples - start), len(values)))].mean(axis=1)
            for start in range(0, resamples, _BLOCK)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference_ci(a: Scores, b: Scores, *, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of mean(a) - mean(b), questions kept in pairs."""
    return bootstrap_ci(list(_paired(a, b)), seed=seed, level=level)


def _paired(a: Scores, b: Scores) -> NDArray[np.float64]:
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired scores must be of the same questions, at least one: {len(a)} and {len(b)}")
    return np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
