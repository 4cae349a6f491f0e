"""Shares of a number of prompts, and two arms on the same prompts: intervals, exact tests, and what they can see."""

import math
from dataclasses import dataclass

_Z95 = 1.959963984540054
_Z80 = 0.8416212335729143
"""Normal quantiles of a two-sided 5% test and of 80% power."""


def wilson(hits: float, n: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (1927), 95% by default. Ties may be half a hit: it is then conservative."""
    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is no share")
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def sign_test(one: int, other: int) -> float:
    """Two-sided exact p of so many differences each way under a fair coin.

    On prompts that only one of two arms passes it is McNemar's exact test (1947); on wins and losses, the sign test.
    """
    n, fewer = one + other, min(one, other)
    below = sum(math.comb(n, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * below / 2**n)) if n else 1.0


def detectable(n: int, discordant: float) -> float | None:
    """Smallest difference of two pass rates on `n` shared prompts that is found with 80% power at p < 0.05.

    `discordant` is the share of prompts on which the arms differ (Connor 1987, the sample size formula of McNemar's
    test, solved for the difference). None where even a difference as large as that share is not found.
    """

    def needed(difference: float) -> float:
        spread = math.sqrt(max(0.0, discordant - difference**2))
        return float(((_Z95 * math.sqrt(discordant) + _Z80 * spread) / difference) ** 2)

    low, high = 0.0, discordant
    if discordant <= 0 or needed(high) > n:
        return None
    for _ in range(60):  # needed() falls with the difference
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= n else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class Share:
    """So many of `n`, with Wilson's 95% interval."""

    hits: float
    n: int

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.n

    @property
    def interval(self) -> list[float]:
        """Its bounds, rounded as they are reported."""
        return [round(bound, 4) for bound in wilson(self.hits, self.n)]
