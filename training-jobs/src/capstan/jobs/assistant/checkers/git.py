"""A git command is right when it has the subcommand, the options and the values that were asked for, and no others."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from capstan.jobs.assistant.checkers.text import command
from capstan.jobs.assistant.checkers.verdict import ABSENT, Verdict, right, wrong
from capstan.jobs.assistant.items import Item


def check(item: Item, answer: str) -> Verdict:
    """`item.check` is `{"subcommand": name, "options": [{"names": spellings, "value": …}], "known": the page's}`."""
    found = command(answer, "git")
    if found is None:
        return wrong(ABSENT)
    try:
        words = shlex.split(found)[1:]
    except ValueError:
        return wrong("unbalanced quotes")
    if not words or words[0] != item.check["subcommand"]:
        return wrong("another subcommand")
    reason = _difference(words[1:], item.check["options"], set(item.check["known"]))
    return wrong(reason) if reason else right(exact=answer.strip() == item.reference)


def _difference(words: Sequence[str], wanted: Sequence[Mapping[str, Any]], known: set[str]) -> str | None:
    """Why the words behind the subcommand are not the wanted options, in any order; None if they are."""
    left = list(wanted)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "--":
            return "an argument too many"
        name, value = _parted(word)
        option = next((o for o in left if name in o["names"]), None)
        if option is None:
            return "another option" if name in known else "an option that does not exist"
        if option["value"] is not None and value is None and rest:
            value = rest.pop(0)
        if value != option["value"]:
            return "another value"
        left.remove(option)
    return "an option is missing" if left else None


def _parted(word: str) -> tuple[str, str | None]:
    """Name and attached value: `--depth=5` and `-n5`."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None
