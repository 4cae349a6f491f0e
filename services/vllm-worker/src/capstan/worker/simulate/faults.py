"""Failures on request, for tests: header `x-sim-fault`, obeyed only with CAPSTAN_WORKER_SIM_FAULTS=1.

`error-500`              answer 500
`hang`                   never answer
`slow-headers[:seconds]` answer late (5 s unless said)
`hang-mid-stream`        stop after three tokens, keep the connection
`die-mid-stream`         break the connection after three tokens
"""

from dataclasses import dataclass

HEADER = b"x-sim-fault"
TOKENS_BEFORE = 3

_NAMES = ("error-500", "hang", "slow-headers", "hang-mid-stream", "die-mid-stream")
_SLOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What shall go wrong; `name` is empty when nothing shall."""

    name: str = ""
    seconds: float = _SLOW_S

    @classmethod
    def parse(cls, header: str) -> "Fault":
        """The fault that a header value asks for. Raises `ValueError`."""
        name, _, seconds = header.partition(":")
        if name not in _NAMES:
            raise ValueError(f"x-sim-fault {name!r} is not one of {', '.join(_NAMES)}")
        return cls(name, float(seconds or _SLOW_S))
