"""Whether an upstream may get requests: probes, what became of its requests, a circuit breaker, slow start."""

from collections.abc import Callable

from capstan.gateway.config import Pool

_LONGEST_OPEN_S = 60.0
_LEAST_SHARE = 0.1
_ASIDE_S = 1.0
"""A retry budget grows by one a second, so one member that declines all (it drains, say) costs no more than that."""


class Health:
    """One upstream's health.

    Down: the last probe failed, or no connection could be made; the next good probe ends it. Open: too many requests
    in a row failed; it ends with time, first for one trial (half-open), longer each time that the trial fails. Aside:
    it has just said that it cannot serve now, with its probe perhaps still good. An upstream that has come back gets
    its share of the load ramped up over `slow_start_s`.
    """

    __slots__ = (
        "_aside_until", "_failures", "_now", "_openings", "_ramp_from", "_trial", "ok", "open_until", "pool", "up",
    )  # fmt: skip

    def __init__(self, pool: Pool, now: Callable[[], float], *, new: bool = False) -> None:
        """`new`: the upstream has joined a running pool, so it starts slowly."""
        self.pool = pool
        self._now = now
        self.up = True
        """Until a probe or a failed connection says otherwise."""
        self.open_until: float | None = None
        """End of the open circuit; None when it is closed."""
        self._aside_until: float | None = None
        self._failures = 0
        self._openings = 0
        self._trial = False
        self._ramp_from = now() if new and pool.slow_start_s else None
        self.ok = self._ramp_from is None
        """Nothing to look at: up, circuit closed, no slow start. Saves the request path the rest."""

    def admits(self) -> bool:
        """Whether it may get a request now."""
        if self.ok:
            return True
        if not self.up or self._aside():
            return False
        return self.open_until is None or (not self._trial and self._now() >= self.open_until)

    @property
    def away_until(self) -> float:
        """When it may be asked again, as far as is known; in the past for one that may."""
        return max(self.open_until or 0.0, self._aside_until or 0.0)

    @property
    def circuit_open(self) -> bool:
        """Whether the circuit keeps requests away now; false while half-open."""
        return self.open_until is not None and self._now() < self.open_until

    @property
    def word(self) -> str:
        """`up`, `starting` (in slow start), `aside`, `open`, `half_open` or `down`."""
        if not self.up:
            return "down"
        if self.open_until is not None:
            return "open" if self.circuit_open else "half_open"
        if self._aside():
            return "aside"
        return "up" if self.share() == 1.0 else "starting"

    def share(self) -> float:
        """The part of a full member's load that it should carry, 0.1 to 1."""
        if self._ramp_from is None:
            return 1.0
        ramped = (self._now() - self._ramp_from) / self.pool.slow_start_s if self.pool.slow_start_s else 1.0
        if ramped >= 1.0:
            self._ramp_from = None
            self._judge()
            return 1.0
        return max(_LEAST_SHARE, ramped)

    def probed(self, good: bool) -> bool:
        """Note a probe's result; returns whether it changed anything."""
        if good == self.up:
            return False
        self.up = good
        if good:
            self._ramp_from = self._now() if self.pool.slow_start_s else None
            if self.open_until is not None:
                self.open_until = self._now()  # perhaps a new process: one trial at once
        self._judge()
        return True

    def began(self) -> None:
        """A request was sent there. In a half-open circuit it is the trial."""
        if self.open_until is not None:
            self._trial = True

    def ended(self) -> None:
        """A request ended, however: the next may be the trial."""
        self._trial = False

    def succeeded(self) -> bool:
        """A request was answered: the circuit closes. Returns whether that changed anything."""
        self._failures = 0
        if self.open_until is None:
            return False
        self.open_until = None
        self._openings = 0
        self._trial = False
        self._judge()
        return True

    def declined(self) -> None:
        """It answered that it cannot serve now (502, 503, 504): nothing new for a second."""
        self._aside_until = self._now() + _ASIDE_S
        self._judge()

    def failed(self, *, unreachable: bool) -> bool:
        """A request failed; `unreachable` also means down, where probes can end that. Returns whether that changed
        anything."""
        self._failures += 1
        before = self.up, self.open_until
        if unreachable and self.pool.kind != "openai":
            self.up = False
        half_open = self.open_until is not None and self._now() >= self.open_until
        if half_open or (self.open_until is None and self._failures >= self.pool.breaker_failures):
            longest = max(_LONGEST_OPEN_S, self.pool.breaker_open_s)
            self.open_until = self._now() + min(longest, self.pool.breaker_open_s * 2**self._openings)
            self._openings = min(self._openings + 1, 30)
            self._trial = False
        self._judge()
        return (self.up, self.open_until) != before

    def _aside(self) -> bool:
        if self._aside_until is not None and self._now() >= self._aside_until:
            self._aside_until = None
            self._judge()
        return self._aside_until is not None

    def _judge(self) -> None:
        self.ok = self.up and self.open_until is None and self._aside_until is None and self._ramp_from is None
