"""How fast waiting requests get places: what a predicted wait is made of. Times are in seconds."""

import math

_MEMORY = 64  # measurements
_DEVIATIONS = 2.3  # one wait in a hundred is longer, if places come free at random times
_LATE = 0.005  # of the refusals may come only after a wait
_STEP = 0.05
_MOST_CAUTION = 2.5


class _Mean:
    """A mean that forgets."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        if self.count < _MEMORY:
            self.count += 1
        self.value += (value - self.value) / self.count


class Pace:
    """The waiting requests of one pool, timed.

    While some wait, it is the mean time between two of them getting a place that counts, and the time since the last
    one did: a pool that hangs has nothing else to measure. The first guess, when waiting begins, is Little's law: the
    mean duration by the number that run. What no formula knows (tenants that pass, lengths, bursts) is learned from
    the waits that were longer than predicted.
    """

    __slots__ = ("_caution", "_duration", "_gap", "_last", "_waiting")

    def __init__(self) -> None:
        self._duration = _Mean()
        self._gap = _Mean()
        self._last = 0.0
        self._waiting = False
        self._caution = 1.0

    def ended(self, duration: float) -> None:
        """A request ended, `duration` after it got its place."""
        self._duration.add(duration)

    def waiting_begins(self, running: int, now: float) -> None:
        """A request has to wait, and none did before it."""
        if not self._waiting:  # else no place came free since: what was measured still holds
            self._gap.value = self._duration.value / max(1, running)
            self._gap.count = self._duration.count
            self._last = now
            self._waiting = True

    def waiting_ended(self) -> None:
        """A place came free that nobody waits for."""
        self._waiting = False

    def served(self, now: float) -> None:
        """A waiting request got its place."""
        self._gap.add(now - self._last)
        self._last = now

    def refused(self, *, late: bool) -> None:
        """A request was refused: at once, or late, after a wait."""
        factor = 1 + _STEP if late else 1 - _STEP * _LATE
        self._caution = min(_MOST_CAUTION, max(1.0, self._caution * factor))

    def wait(self, places: int, running: int, now: float) -> float:
        """Mean time until the last of so many waiting requests gets its place; 0 where nothing is known."""
        return places * self._seconds_per_place(running, now)

    def longest(self, places: int, running: int, now: float) -> float:
        """A time that this almost surely does not pass."""
        spread = self._caution * _DEVIATIONS * math.sqrt(places)
        return (places + spread) * self._seconds_per_place(running, now)

    def _seconds_per_place(self, running: int, now: float) -> float:
        if not self._waiting:
            return self._duration.value / max(1, running)
        gap = self._gap
        return (gap.value * gap.count + now - self._last) / (gap.count + 1)
