"""What a manual says about an option or a constant, and its name: alone, or out of the names beside it."""

import random
import re
from collections.abc import Iterator, Sequence

from capstan.jobs.assistant.data.drafts import Document, Draft, Refused, dice, say
from capstan.jobs.assistant.data.manual import Entry, entries, names_of, told_apart

SYSTEM = "Answer with the name of the option or constant alone."
_PAGE = re.compile(r"^(?:Linux kernel|PostgreSQL|SQLite|Python|Perl|Debian): ")
_BEHIND = re.compile(r" — .*| \([A-Z].*\)$|(?<=\)): .*")
_CHOICES = (4, 5, 6, 7, 8)
_FEWEST_CHOICES = 4
_LEAST_CHARACTERS = 4
_WHICH = (
    "Which {sort} of {page} is it? {Text}.",
    "{page}: which {sort} does this? {Text}.",
    "What is the {sort} of {page} for this: {text}?",
    "Name the {sort} of {page} that is described as: {Text}.",
    "In {page}, I need the {sort} for: {text}.",
    "{Text}. Which {sort} of {page} is that?",
)
_AMONG = ("It is one of {names}.", "Choose from {names}.", "The candidates are {names}.", "({names})")


def page_name(title: str) -> str:
    """How people name a page: `pg_dump` for "pg_dump (PostgreSQL Client Applications)", `open(2)` for a manual page."""
    return _BEHIND.sub("", _PAGE.sub("", title))


def drafts(document: Document, family: str, seed: int, refused: Refused) -> Iterator[Draft]:
    """Drafts of a page: one for each option or constant whose description leads to it."""
    found = told_apart(entries(document))
    known = sorted(names_of(document))
    for number, entry in enumerate(found):
        rng = dice(seed, document["id"], "option", number)
        beside = [other.names[0] for other in found if other.names[0] != entry.names[0] and _alike(entry, other)]
        among = _choices(entry, beside, rng)
        if reason := _unfit(entry, listed=bool(among)):
            refused.add("option", reason)
            continue
        prompt = _ask(entry, page_name(document["title"]), among, rng)
        check = {"accepted": list(entry.names), "known": known}
        source = f"{document['source']}:{document['id'].partition('/')[2]}"
        yield Draft("option", source, family, say(SYSTEM, prompt), entry.names[0], check)


def _alike(entry: Entry, other: Entry) -> bool:
    """Whether two could be taken for each other: of one list, and both options or both constants."""
    return entry.heading[:1] == other.heading[:1] and entry.names[0].startswith("--") == other.names[0].startswith("--")


def _choices(entry: Entry, beside: Sequence[str], rng: random.Random) -> list[str]:
    """Names to choose from, in any order, or none: constants always come with a choice, options often."""
    option = entry.names[0].startswith("-")
    if len(beside) < _FEWEST_CHOICES - 1 or (option and entry.inferable and rng.random() < 0.4):
        return []
    names = [*rng.sample(beside, min(rng.choice(_CHOICES) - 1, len(beside))), entry.names[0]]
    rng.shuffle(names)
    return names


def _unfit(entry: Entry, *, listed: bool) -> str | None:
    name = entry.names[0]
    if len(name.strip("-")) < _LEAST_CHARACTERS:
        return "no name of more than a letter"
    if re.match(r"E[A-Z0-9]+$", name):
        return "an error code"
    if any(re.search(rf"(?<![\w-]){re.escape(n)}(?![\w-])", entry.text) for n in entry.names):
        return "the description holds the name"
    if not listed and not name.startswith("--"):
        return "too few names beside it"
    return None if listed or entry.inferable else "the name is not to be guessed"


def _ask(entry: Entry, page: str, among: Sequence[str], rng: random.Random) -> str:
    sort = "option" if entry.names[0].startswith("-") else "constant"
    text = entry.text[0].lower() + entry.text[1:] if entry.text[1:2].islower() else entry.text
    question = rng.choice(_WHICH).format(sort=sort, page=page, text=text, Text=entry.text)
    return f"{question} {rng.choice(_AMONG).format(names=', '.join(among))}" if among else question
