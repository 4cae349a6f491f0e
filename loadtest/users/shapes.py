"""How many users there are, second by second. Without Locust, so that it can be looked at."""

SHAPES = ("steady", "step", "spike", "soak")
_STEPS = 5
_BASE = 0.2
"""Part of the users who are there before and after a spike, which lasts the middle fifth of the time."""
_RAMP, _HELD = 0.05, 0.8
"""A soak rises for this part of the time, to this part of the users."""


def users_at(shape: str, second: float, seconds: float, peak: int) -> int | None:
    """Users of `shape` at a second of a run of `seconds` whose most is `peak`; None: it is over."""
    if second >= seconds:
        return None
    passed = second / seconds
    if shape == "step":
        part = (int(passed * _STEPS) + 1) / _STEPS
    elif shape == "spike":
        part = 1.0 if 0.4 <= passed < 0.6 else _BASE
    elif shape == "soak":
        part = _HELD * min(1.0, passed / _RAMP)
    else:
        part = 1.0
    return max(1, round(peak * part))
