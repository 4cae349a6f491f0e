"""Passages: what evidence is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document as the retriever stores it; `index` is its place in the document."""

    index: int
    id: str
    text: str
    heading: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a document as evidence, or several neighbouring ones.

    `chunk_id` is the chunk that was found; `chunks` are those that `text` is made of, in the document's order.
    `relevance` is the reranker's score in 0..1, None without it.
    """

    chunk_id: str
    document_id: str
    title: str
    heading: tuple[str, ...]
    text: str
    url: str
    source: str
    license: str
    relevance: float | None = None
    chunks: tuple[Chunk, ...] = ()

    @property
    def place(self) -> str:
        """Title and heading path, as a reader would name the place."""
        return " > ".join(dict.fromkeys((self.title, *self.heading)))

    @property
    def index(self) -> int:
        """Place of the chunk that was found in its document."""
        return next((chunk.index for chunk in self.chunks if chunk.id == self.chunk_id), 0)

    def chunk_of(self, quote: str) -> str:
        """Id of the chunk that holds `quote`; the found one where none does or several do."""
        holding = [chunk.id for chunk in self.chunks if quote in chunk.text]
        return holding[0] if holding and self.chunk_id not in holding else self.chunk_id
