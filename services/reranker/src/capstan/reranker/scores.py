"""What a scorer returns."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scores:
    """One score a passage, in their order; `tokens` were read, `cached` passages came from memory."""

    values: list[float]
    tokens: int
    cached: int = 0
