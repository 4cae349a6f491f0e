"""Counts an embedder's tokens without running its tokenizer over every document.

WordPiece looks at one word at a time, so a text's count is the sum over its words, and words repeat:
each distinct word goes through the real tokenizer once. Counts are exact for text; for symbols
outside Unicode's punctuation (box drawing, arrows) they err upwards.
"""

import re
from collections.abc import Callable, Sequence

_WORD = re.compile(r"[^\W_]+|(?:[^\w\s]|_)+")
_MAX_REMEMBERED = 500_000

CountWords = Callable[[list[str]], list[int]]
"""Token counts of single words, by the embedder's tokenizer, special tokens left out."""


class TokenCounter:
    """Callable: texts to token counts. Not safe for threads; each ingest thread has its own or takes turns."""

    def __init__(self, count_words: CountWords) -> None:
        self._count_words = count_words
        self._known: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, special tokens left out."""
        words = [_WORD.findall(text) for text in texts]
        known = self._known
        distinct = set[str]().union(*words)
        new = {word for word in distinct if word not in known}
        if new:
            if len(known) > _MAX_REMEMBERED:
                known.clear()
                new = distinct
            batch = list(new)
            known.update(zip(batch, self._count_words(batch), strict=True))
        return [sum(map(known.__getitem__, found)) for found in words]
