"""Drafts: candidates before they have a split and an id, and the count of what was refused."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from capstan.jobs.assistant.items import Item, Kind

Document = dict[str, Any]
"""A line of the corpus file."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A candidate. Drafts of one `family` are kept on one side: one of them would give away the others."""

    kind: Kind
    source: str
    family: str
    messages: tuple[dict[str, str], ...]
    reference: str
    check: dict[str, Any]

    @property
    def prompt(self) -> str:
        """What the user says."""
        return self.messages[-1]["content"]

    def item(self, name: str) -> Item:
        """The item under a name."""
        return Item(name, self.kind, self.source, self.messages, self.reference, self.check)


@dataclass(slots=True)
class Refused:
    """How many candidates of each kind were refused, by reason."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, kind: str, reason: str, count: int = 1) -> None:
        """Count a candidate that is refused."""
        self.counts[kind][reason] += count

    def as_dict(self) -> dict[str, dict[str, int]]:
        """By kind, the commonest reasons first."""
        return {kind: dict(self.counts[kind].most_common()) for kind in sorted(self.counts)}


def say(system: str, prompt: str) -> tuple[dict[str, str], ...]:
    """The messages of an instruction."""
    return ({"role": "system", "content": system}, {"role": "user", "content": prompt})


def dice(*key: object) -> random.Random:
    """Random choices that depend on the key alone, so that one page more changes no other page's."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 (a choice of words, not a secret)
