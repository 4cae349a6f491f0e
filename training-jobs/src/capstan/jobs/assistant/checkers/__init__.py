"""Judges an answer to an item by program: no model, no network. One module for each kind."""

from collections.abc import Callable

from capstan.jobs.assistant.checkers import aws, git, grounded, option, sql
from capstan.jobs.assistant.checkers.verdict import Verdict
from capstan.jobs.assistant.items import Item, Kind

_CHECKERS: dict[Kind, Callable[[Item, str], Verdict]] = {
    "aws": aws.check,
    "option": option.check,
    "git": git.check,
    "sql": sql.check,
    "grounded": grounded.check,
}


def check(item: Item, answer: str) -> Verdict:
    """Whether `answer` does what the item asks for, whether it is the reference itself, and why (not)."""
    return _CHECKERS[item.kind](item, answer)


__all__ = ["Verdict", "check"]
