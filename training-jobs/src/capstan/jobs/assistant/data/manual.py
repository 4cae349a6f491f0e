"""Entries of manual pages: the names of an option or a constant, its argument, and what it does."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from capstan.jobs.assistant.data.drafts import Document
from capstan.jobs.evaluate.verifier import content_words

ENTRY = re.compile(r"^- (?P<term>[^\n]{1,90}?): (?P<text>[^\n]{15,})", re.MULTILINE)
_COMMA = re.compile(r",\s+(?=-)|\s+\|\s+(?=-)|\s+or\s+(?=-)")
_OPTION = re.compile(r"^(?P<name>--?(?:\[no-\])?[A-Za-z0-9][\w-]*)(?P<rest>.*)$")
_CONSTANT = re.compile(r"^(?P<name>[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?: \([^)]*\))?$")
_ARGUMENT = re.compile(r"[<\[({]*([A-Za-z][\w-]*)")
_SENTENCE = re.compile(r"(?:(?<=[a-z0-9)\]>'\"”][.!?])|(?<=[A-Z][A-Z][.!?]))\s+(?=[A-Z`(“\"])")
_EMPTY = re.compile(
    r"^(?:see|same|like|as above|this (?:option|is)|these|it|synonym|alias|deprecated|obsolete|reserved|default)\b",
    re.I,
)
_BROKEN = re.compile(r"`|http|[.;] [a-z]")
_REST = re.compile(r"\s*\([^()]*(?:deprecated|default|see)[^()]*\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a definition list of a manual says about one option or constant.

    `names` are its spellings, the one to teach first. `argument` is the name of its value ("" for none), `text` the
    first sentence, without a full stop. `heading` is where it stands.
    """

    names: tuple[str, ...]
    argument: str
    optional: bool
    text: str
    heading: tuple[str, ...]

    @property
    def inferable(self) -> bool:
        """Whether half of the words of its name stand in its description, so that one leads to the other."""
        words = set(content_words(self.names[0].replace("-", " ").replace("_", " ")))
        return bool(words) and len(words & set(content_words(self.text))) >= len(words) / 2


def entries(document: Document) -> Iterator[Entry]:
    """Options and constants of a page that come with a sentence of their own."""
    for section in document["sections"]:
        heading = tuple(section["heading"])
        found = [(m["term"], m["text"]) for m in ENTRY.finditer(section["text"])]
        if heading:
            found.append((heading[-1], section["text"].split("\n")[0]))
        for term, text in found:
            sentence = first_sentence(text)
            if sentence and (entry := entry_of(term.strip(), sentence, heading)):
                yield entry


def told_apart(found: Iterable[Entry]) -> list[Entry]:
    """Entries, each once, whose name stands for one thing on the page, and whose description stands at one name."""
    of_name: dict[str, set[str]] = defaultdict(set)
    of_text: dict[str, set[str]] = defaultdict(set)
    by_name: dict[str, Entry] = {}
    for entry in found:
        by_name[entry.names[0]] = entry
        of_name[entry.names[0]].add(entry.text)
        of_text[entry.text].add(entry.names[0])
    return [e for name, e in by_name.items() if len(of_name[name]) == len(of_text[e.text]) == 1]


def names_of(document: Document) -> frozenset[str]:
    """Every option and constant that a page names anywhere."""
    texts = [part for s in document["sections"] for part in (s["text"], *s["heading"])]
    found = set(re.findall(r"(?<![\w-])--?[A-Za-z0-9][\w-]*|\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", "\n".join(texts)))
    negated = {name for text in texts for name in re.findall(r"--\[no-\]([\w-]+)", text)}
    return frozenset(found | {f"--{name}" for name in negated} | {f"--no-{name}" for name in negated})


def sentences(text: str) -> list[str]:
    """A text's sentences; an initial ends none."""
    return _SENTENCE.split(text)


def first_sentence(text: str) -> str | None:
    """The first sentence of an entry without its full stop, or None where it says nothing by itself."""
    sentence = _REST.sub("", sentences(text.strip())[0]).strip().rstrip(".")
    words = sentence.split()
    if not 4 <= len(words) <= 32 or _EMPTY.match(sentence) or sentence.endswith((":", ";", ",")):
        return None
    plain = sentence[0].isalpha() and not _BROKEN.search(sentence)
    return sentence if plain and is_whole(sentence) else None


def is_whole(sentence: str) -> bool:
    """Whether a sentence was not cut at the full stop of "(e.g."."""
    return sentence.count("(") == sentence.count(")")


def entry_of(term: str, sentence: str, heading: tuple[str, ...] = ()) -> Entry | None:
    """The entry of a term ("-f, --file=<file>"), or None for one of several options together, and for other terms."""
    if constant := _CONSTANT.match(term):
        return Entry((constant["name"],), "", False, sentence, heading)
    parts = [match for part in _COMMA.split(term) if (match := _OPTION.match(part.strip()))]
    if not term.startswith("-") or not parts:
        return None
    names = list(dict.fromkeys(match["name"].replace("[no-]", "") for match in parts))
    kept = [name for name in names if not name.startswith("--no-")] or names
    kept.sort(key=lambda name: not name.startswith("--"))
    if sum(name.startswith("--") for name in kept) > 1:
        return None
    rest = max((match["rest"].strip() for match in parts), key=len)
    argument = _ARGUMENT.search(rest)
    return Entry(tuple(kept), argument[1] if argument else "", rest.startswith("["), sentence, heading)
