"""What a language model has to beat: unigram and trigram counts over the same tokens.

The trigram is interpolated modified Kneser-Ney (Chen & Goodman 1998, equations 25 to 27), on sorted arrays.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_SHIFT = np.uint64(16)
Tokens = NDArray[np.uint64]


class _Level:
    """N-grams of one length with their (continuation) counts, discounts, and what backing off leaves."""

    def __init__(self, grams: Tokens, counts: NDArray[np.int64]) -> None:
        self._grams, self._counts = grams, counts
        ones, twos, threes, fours = (int((counts == n).sum()) for n in (1, 2, 3, 4))
        y = ones / max(ones + 2 * twos, 1)
        discounts = [n - (n + 1) * y * more / max(few, 1) for n, few, more in _pairs(ones, twos, threes, fours)]
        self._discounts = np.array([0.0, *np.clip(discounts, 0.05, (1, 2, 3))])
        self._contexts, starts = np.unique(grams >> _SHIFT, return_index=True)
        self._totals = np.add.reduceat(counts, starts)
        self._left = np.add.reduceat(self._discounts[np.minimum(counts, 3)], starts) / self._totals

    def interpolate(self, context: Tokens, token: Tokens, lower: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(token | context) from the probabilities of the level below."""
        place, known = _find(self._contexts, context)
        count = np.zeros(len(token))
        gram, found = _find(self._grams, (context << _SHIFT) | token)
        seen = self._counts[gram]
        count[found] = (seen - self._discounts[np.minimum(seen, 3)])[found]
        return np.where(known, count / self._totals[place] + self._left[place] * lower, lower)


def _pairs(*counts: int) -> list[tuple[int, int, int]]:
    return [(n + 1, few, more) for n, (few, more) in enumerate(pairwise(counts))]


def _find(values: Tokens, wanted: Tokens) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    place = np.searchsorted(values, wanted).clip(max=len(values) - 1)
    return place, values[place] == wanted


class Unigram:
    """Relative frequencies, one added to each count."""

    def __init__(self, stream: Tokens, vocabulary: int) -> None:
        counts = np.bincount(stream.astype(np.int64), minlength=vocabulary) + 1
        self._logs = np.log(counts / counts.sum())

    def log_probabilities(self, tokens: Tokens) -> NDArray[np.float64]:
        """Nats of each token but the first; shape (tokens - 1,)."""
        logs: NDArray[np.float64] = self._logs[tokens[1:].astype(np.int64)]
        return logs


class Trigram:
    """Interpolated modified Kneser-Ney of a stream of tokens."""

    def __init__(self, stream: Tokens, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        threes, counts = np.unique(_join(stream[:-2], stream[1:-1], stream[2:]), return_counts=True)
        twos, before_two = np.unique(threes & np.uint64(0xFFFFFFFF), return_counts=True)
        ones, before_one = np.unique(twos & np.uint64(0xFFFF), return_counts=True)
        self._levels = _Level(threes, counts), _Level(twos, before_two), _Level(ones, before_one)

    def log_probabilities(self, tokens: Tokens) -> NDArray[np.float64]:
        """Nats of each token but the first; shape (tokens - 1,)."""
        three, two, one = self._levels
        token, before = tokens[1:], tokens[:-1]
        earlier = np.concatenate([tokens[:1], tokens[:-2]])
        uniform = np.full(len(token), 1 / self._vocabulary)
        probability = one.interpolate(np.zeros_like(token), token, uniform)
        probability = two.interpolate(before, token, probability)
        return np.log(three.interpolate(_join(earlier, before), token, probability))


def _join(*tokens: Tokens) -> Tokens:
    joined = tokens[0]
    for part in tokens[1:]:
        joined = (joined << _SHIFT) | part
    return joined
