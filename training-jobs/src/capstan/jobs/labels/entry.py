"""One question of a FAQ page, as it stands there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """Where a link in an answer goes: a target in the page's own notation, and a place on it ("" if none)."""

    target: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A question's heading, the text of its answer, and the links in it."""

    heading: str
    answer: str
    links: tuple[Link, ...]
