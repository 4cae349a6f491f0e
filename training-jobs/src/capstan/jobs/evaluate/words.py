"""How much of a reference answer a text holds, in words: a metric that needs no judge."""

import re
from collections.abc import Iterable

from capstan.extract.text import words

_WORD = re.compile(r"[a-z_][a-z0-9_]{2,}")
_STOP = words(
    """
    the and for are but not you all any can has had have her was one our out that with this from they will would there
    their what about which when make like just into your some could them than then its also how who use used using may
    more such only other these those where while should must been being does did each same over very here see via
    per let lets isn aren don doesn won want need way yes get got
    """
)


def content_words(text: str) -> frozenset[str]:
    """The distinct words of a text that carry its content."""
    return frozenset(_WORD.findall(text.casefold())) - _STOP


def word_recall(reference: str, texts: Iterable[str]) -> float:
    """Share of the reference's content words that the texts hold together; 1 for a reference without any."""
    wanted = content_words(reference)
    held = frozenset[str]().union(*(content_words(text) for text in texts))
    return len(wanted & held) / len(wanted) if wanted else 1.0
