"""How many requests a pool runs at once: additive increase, multiplicative decrease on time to first token."""

_WINDOW_S = 1.0
_WINDOW_SAMPLES, _WINDOW_MAX_SAMPLES = 20, 500
_WINDOW_MAX_S = 5.0
_QUANTILE = 0.9
_USED = 0.9  # of the limit: with less, nothing is learned about a higher one
_BLAMED = 0.5  # of the limit: with less, slow first tokens are not its fault
_COMFORT = 0.85  # of the target: growth ends
_CUT, _HARD_CUT = 0.9, 0.7
_HARD_FROM = 3.0  # times the target
_NEAR = 0.15  # of the limit that was too much: there, growth is by one
_START = 0.5  # of the ceiling
_KV_FULL = 0.95
_PRESSED_READINGS = 3
_READING_S = 15.0


class Limiter:
    """The limit of one pool. A state machine: the caller brings time, in seconds.

    It looks at how long streams take from dispatch to their first byte, never at how long they last: a long answer is
    no overload. A window of first tokens above the target cuts the limit; one that is well below, while the limit was
    used, raises it: by half until the first cut (slow start), then by a twentieth, and by one near the limit that
    was too much last time.
    """

    def __init__(self, per_upstream: int, upstreams: int, target_s: float | None, now: float) -> None:
        self._per_upstream = per_upstream
        self._upstreams = max(1, upstreams)
        self._target_s = target_s
        self.limit = self.ceiling if target_s is None else max(self._upstreams, _START * self.ceiling)
        self._slow_start = True
        self._too_much = 0.0
        self._changed_at = now
        self._held_until = now
        self._pressed = 0
        self._samples: list[float] = []
        self._window_start = now
        self._peak = 0

    @property
    def ceiling(self) -> float:
        """The limit's upper bound."""
        return float(self._per_upstream * self._upstreams)

    def configure(self, per_upstream: int, target_s: float | None) -> None:
        """Take a new configuration; the limit is kept where it still fits."""
        unbounded = target_s is None or (self._target_s is None and target_s is not None)
        self._per_upstream, self._target_s = per_upstream, target_s
        self._set(self.ceiling if unbounded else self.limit)

    def capacity(self, upstreams: int) -> None:
        """Upstreams that can take requests: each brings its part of the limit. None at all changes nothing."""
        if upstreams > 0 and upstreams != self._upstreams:
            factor = upstreams / self._upstreams
            self._upstreams = upstreams
            self._too_much *= factor
            self._set(self.limit * factor)

    def first_token(self, seconds: float, now: float, running: int) -> bool:
        """Take one stream's time to its first byte. True when the limit has changed."""
        if self._target_s is None or now - seconds < self._changed_at:
            return False  # began under another limit
        self._peak = max(self._peak, running)
        if len(self._samples) < _WINDOW_MAX_SAMPLES:
            self._samples.append(seconds)
        elapsed, count = now - self._window_start, len(self._samples)
        if elapsed < _WINDOW_S or (count < _WINDOW_SAMPLES and elapsed < _WINDOW_MAX_S):
            return False
        return self._judge(self._target_s, now)

    def engine(self, waiting: float, kv_usage: float, now: float) -> bool:
        """Take the engines' own readings: requests queued there, greatest use of KV cache. True on a new limit."""
        if self._target_s is None:
            return False
        if waiting <= self._upstreams and kv_usage <= _KV_FULL:
            self._pressed = 0
            return False
        self._held_until = now + _READING_S
        self._slow_start = False
        self._pressed += 1
        if self._pressed < _PRESSED_READINGS:
            return False
        self._pressed = 0
        self._too_much = self.limit
        return self._change(self.limit * _CUT, now)

    def _judge(self, target_s: float, now: float) -> bool:
        self._samples.sort()
        seen = self._samples[int(_QUANTILE * (len(self._samples) - 1))]
        used = self._peak / self.limit
        self._samples.clear()
        self._window_start, self._peak = now, 0
        if seen > target_s and used >= _BLAMED:
            self._slow_start = False
            self._too_much = self.limit
            return self._change(self.limit * (_HARD_CUT if seen > _HARD_FROM * target_s else _CUT), now)
        if seen > _COMFORT * target_s:
            self._slow_start = False
        elif used >= _USED and now >= self._held_until:
            return self._change(self.limit + self._growth(), now)
        return False

    def _growth(self) -> float:
        if self._slow_start:
            return self.limit / 2
        near = abs(self.limit - self._too_much) < _NEAR * self._too_much
        return 1.0 if near else max(1.0, self.limit / 20)

    def _change(self, limit: float, now: float) -> bool:
        before = self.limit
        self._set(limit)
        if self.limit == before:
            return False
        self._changed_at = self._window_start = now
        self._samples.clear()
        self._peak = 0
        return True

    def _set(self, limit: float) -> None:
        self.limit = min(self.ceiling, max(float(self._upstreams), limit))
