"""The name of an option or constant is right when it is one of the spellings that the manual gives."""

import re

from capstan.jobs.assistant.checkers.verdict import ABSENT, Verdict, right, wrong
from capstan.jobs.assistant.items import Item

_NAME = re.compile(r"(?<![\w-])--?[A-Za-z0-9][\w-]*|\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")


def check(item: Item, answer: str) -> Verdict:
    """`item.check` is `{"accepted": spellings, "known": all names of the page}`; other names may not stand beside."""
    named = list(dict.fromkeys(_NAME.findall(answer)))
    if not named:
        return wrong(ABSENT)
    accepted = set(item.check["accepted"])
    others = [name for name in named if name not in accepted]
    if not others:
        return right(exact=answer.strip() == item.reference)
    if accepted & set(named):
        return wrong("more than one name")
    return wrong("another name of the manual" if others[0] in item.check["known"] else "a name that does not exist")
