"""BM25 by the book: rank-bm25's BM25Okapi over the same chunks, the reference that the engine's BM25 is held against.

The tokens are Qdrant's own (lower case, English stop words and stemmer), so that only the ranking function differs:
Okapi's k1 1.5 and b 0.75 with the true average length, against 1.2, 0.75 and a fixed one.
"""

import re
from collections.abc import Iterable
from functools import cache

import numpy as np
from qdrant_edge import Bm25, Bm25Config
from rank_bm25 import BM25Okapi  # type: ignore[import-untyped]

from capstan.jobs.evaluate.client import Passage

_WORD = re.compile(r"[^\W_]+")
_EMBEDDER = Bm25(Bm25Config(language="english"))


class ReferenceBm25:
    """Searches passages that are all held in memory."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._passages = list(passages)
        self._bm25 = BM25Okapi([tokens(passage.placed) for passage in self._passages])

    def search(self, query: str, limit: int, exclude: frozenset[str]) -> list[tuple[Passage, float]]:
        """The best `limit` passages that score above 0, best first."""
        scores = self._bm25.get_scores(tokens(query))
        found: list[tuple[Passage, float]] = []
        for place in np.argsort(-scores, kind="stable"):
            passage = self._passages[int(place)]
            if scores[place] <= 0 or len(found) == limit:
                break
            if passage.document not in exclude:
                found.append((passage, float(scores[place])))
        return found


def tokens(text: str) -> list[int]:
    """Numbers that stand for the stemmed words of a text, stop words left out."""
    return [token for word in _WORD.findall(text) if (token := _token(word)) is not None]


@cache
def _token(word: str) -> int | None:
    indices = _EMBEDDER.embed_query(word).indices
    return int(indices[0]) if indices else None
