"""What a checker says."""

from dataclasses import dataclass

ABSENT = "no answer of the kind that was asked for"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed`: the answer does what was asked. `exact`: it is the reference, character for character.

    `reason` is one of a few phrases for each kind, to count by; "right" where it passed.
    """

    passed: bool
    exact: bool
    reason: str


def right(*, exact: bool) -> Verdict:
    """The verdict on an answer that passes."""
    return Verdict(True, exact, "right")


def wrong(reason: str) -> Verdict:
    """The verdict on an answer that does not."""
    return Verdict(False, False, reason)
