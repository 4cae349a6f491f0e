"""BM25 as sparse vectors: term weights here, IDF in the store at query time.

The weights are Qdrant's own (`k` 1.2, `b` 0.75, English stop words and stemmer) and the same in the
embedded store and on a server. BM25 divides by the average document length, which Qdrant takes from
the client and freezes into each vector: `AVERAGE_LENGTH` is the mean number of terms in a chunk of
the default corpus, 99.6. It is part of the index's name, so changing it
starts a new index instead of mixing two scales.
"""

from qdrant_edge import Bm25, Bm25Config, SparseVector

AVERAGE_LENGTH = 100.0


class Lexicon:
    """Texts to BM25 vectors."""

    def __init__(self) -> None:
        self._bm25 = Bm25(Bm25Config(avg_len=AVERAGE_LENGTH, language="english"))

    def document(self, text: str) -> SparseVector:
        """Saturated term frequencies of a chunk."""
        return self._bm25.embed_document(text)

    def query(self, text: str) -> SparseVector | None:
        """Weight 1 for each term; None if no term is left (stop words and symbols only)."""
        vector = self._bm25.embed_query(text)
        return vector if vector.indices else None
