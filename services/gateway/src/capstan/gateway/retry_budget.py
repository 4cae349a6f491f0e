"""How many retries a pool may add to its load, so that an outage does not double it."""

from collections.abc import Callable

_MOST = 10.0
_PER_SECOND = 1.0


class RetryBudget:
    """A token bucket: each request adds `ratio` of a retry, and time one a second, so that a quiet pool has some too.

    In any time of t seconds with n dispatches at most `10 + ratio * n + t` retries; none at all with a ratio of 0.
    """

    __slots__ = ("_balance", "_now", "_since", "ratio", "used")

    def __init__(self, ratio: float, now: Callable[[], float]) -> None:
        self.ratio = ratio
        self.used = 0
        """Retries granted so far."""
        self._now = now
        self._balance = _MOST
        self._since = now()

    def deposit(self) -> None:
        """Count a request."""
        self._balance += self.ratio

    def take(self) -> bool:
        """Ask for one retry."""
        if not self.ratio:
            return False
        now = self._now()
        self._balance = min(_MOST, self._balance + (now - self._since) * _PER_SECOND)
        self._since = now
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        self.used += 1
        return True
