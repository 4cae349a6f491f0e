"""What the retriever needs of a vector store, and the types that pass through it.

Two stores implement it with one schema (edge_store, server_store): a point per chunk with the named
vectors `dense` and `bm25`. A chunk whose point has no dense vector yet is pending; there is no other
record of what is to be embedded, so a restart forgets nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
T = TypeVar("T")
Mode = Literal["bm25", "dense", "hybrid"]

DENSE = "dense"
BM25 = "bm25"
SCHEMA_VERSION = 1
KEYWORD_FIELDS = ("tenant", "document_id", "source")
INTEGER_FIELDS = ("chunk_index",)
WRITE_BATCH = 256  # points in one write, so that a search waits for little


class StoreError(Exception):
    """The store cannot be opened or reached; the message says what to change."""


class Sparse(Protocol):
    """A sparse vector: indices and their weights."""

    @property
    def indices(self) -> list[int]:
        """Which terms."""

    @property
    def values(self) -> list[float]:
        """How much of each."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What is stored with a chunk."""

    tenant: str
    document_id: str
    revision: str
    title: str
    heading: list[str]
    text: str
    chunk_index: int
    chunks: int
    url: str | None = None  # the engine forgets fields that are set to null
    source: str | None = None
    license: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = tuple(field.name for field in fields(Payload))


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A chunk to write; its dense vector follows later."""

    id: str
    payload: Payload
    bm25: Sparse


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """What re-ingesting needs to know of a chunk that is there."""

    id: str
    document_id: str
    revision: str
    chunk_index: int
    chunks: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as a reader sees it."""

    id: str
    revision: str
    chunk_index: int
    heading: list[str]
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result; `score` is BM25, cosine or the fused score, by mode."""

    id: str
    score: float
    payload: Payload


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document as its chunks show it."""

    id: str
    tenant: str
    revision: str
    title: str
    chunks: int
    embedded: int


Embedded = Counter[tuple[str, str, str]]
"""How many chunks of (tenant, document, revision) have a dense vector."""

ROW_FIELDS = ["tenant", "document_id", "revision", "title", "chunks"]

CHUNK_FIELDS = ["revision", "chunk_index", "heading", "text"]


def document_row(first: dict[str, Any], embedded: Embedded) -> DocumentRow:
    """A row from the payload of a document's first chunk."""
    key = (first["tenant"], first["document_id"], first["revision"])
    return DocumentRow(key[1], key[0], key[2], first["title"], first["chunks"], embedded[key])


def batches(items: Sequence[T]) -> list[Sequence[T]]:
    """`items` in writes of `WRITE_BATCH`."""
    return [items[i : i + WRITE_BATCH] for i in range(0, len(items), WRITE_BATCH)]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is."""

    documents: int
    chunks: int
    embedded: int

    @property
    def pending(self) -> int:
        """Chunks without a dense vector."""
        return self.chunks - self.embedded


@dataclass(frozen=True, slots=True)
class Fusion:
    """How hybrid search joins its two lists.

    `rrf`: reciprocal rank fusion (Cormack, Clarke, Büttcher 2009), score = sum of weight / (k + rank),
    rank counted from 1. `dbsf`: Qdrant's distribution-based score fusion; takes neither k nor weights.
    `candidates` is the length of each list before fusion. `siblings` is what chunks of one document add to
    each other: the best other one's score times `siblings`, the next one's times its square, and so on.
    """

    kind: Literal["rrf", "dbsf"] = "rrf"
    rrf_k: int = 60
    bm25_weight: float = 1.0
    dense_weight: float = 1.0
    candidates: int = 50
    siblings: float = 0.0


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """One search: at least one of the two query vectors, and whose chunks may be seen.

    Chunks of the documents `exclude` are left out before either list is cut to its length; at most
    `per_document` chunks of each document are chosen from what was found.
    """

    tenants: tuple[str, ...]
    limit: int
    bm25: Sparse | None
    dense: Floats | None
    source: str | None
    fusion: Fusion
    exclude: tuple[str, ...] = ()
    per_document: int | None = None

    def __post_init__(self) -> None:
        if not self.tenants:
            raise ValueError("a search without a tenant would see everything")

    @property
    def depth(self) -> int:
        """How many chunks to ask the engine for: all that the lists can hold."""
        lists = (self.bm25 is not None) + (self.dense is not None)
        return max(self.limit, lists * self.fusion.candidates)

    def chosen(self, found: Sequence["Candidate"]) -> list["Candidate"]:
        """The answer, best first, of what the engine found.

        The engine leaves the order of equal fused scores to chance, and equal ranks in two lists are
        equal scores: here it is that of the ids, so that the same search has the same answer.
        """
        if self.bm25 is not None and self.dense is not None:
            found = _supported(found, self.fusion.siblings)
            found = sorted(found, key=lambda candidate: (-candidate.score, candidate.id))
        if self.per_document is not None:
            found = _spread(found, self.per_document)
        return list(found[: self.limit])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that was found; `document` is its tenant and document id."""

    id: str
    score: float
    document: tuple[str, str]


CANDIDATE_FIELDS = ["tenant", "document_id"]


def _supported(found: Sequence[Candidate], weight: float) -> list[Candidate]:
    """Scores with what the chunks of one document add to each other.

    A document that is found in several places is more often the one that is asked for.
    """
    if not weight:
        return list(found)
    scores = defaultdict[tuple[str, str], list[float]](list)
    for candidate in sorted(found, key=lambda candidate: -candidate.score):
        scores[candidate.document].append(candidate.score)
    supported = []
    for candidate in found:
        others = list(scores[candidate.document])
        others.remove(candidate.score)
        gain = sum(score * weight**place for place, score in enumerate(others, start=1))
        supported.append(replace(candidate, score=candidate.score + gain))
    return supported


def _spread(found: Sequence[Candidate], per_document: int) -> list[Candidate]:
    """The first `per_document` of each document, in order."""
    seen = Counter[tuple[str, str]]()
    kept = []
    for candidate in found:
        seen[candidate.document] += 1
        if seen[candidate.document] <= per_document:
            kept.append(candidate)
    return kept


class VectorStore(Protocol):
    """The store. Every method is one or a few calls to the engine; all raise `StoreError` when it is away."""

    async def close(self) -> None:
        """Write everything out and let go of the files or connections."""

    async def flush(self) -> None:
        """Return when all that was written survives the end of the process."""

    async def upsert(self, points: Sequence[NewPoint]) -> None:
        """Write new chunks, without dense vectors."""

    async def update_payload(self, ids: Sequence[str], fields: dict[str, Any]) -> None:
        """Set payload fields of chunks, leaving their vectors."""

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks; those that are not there are no error."""

    async def set_dense(self, ids: Sequence[str], vectors: Floats) -> int:
        """Give chunks their dense vectors, shape (len(ids), dimensions); returns how many were still there."""

    async def pending(self, limit: int, exclude: Sequence[str]) -> list[tuple[str, Payload]]:
        """Up to `limit` chunks that have no dense vector, leaving out those with the ids `exclude`."""

    async def stored(self, tenant: str, document_ids: Sequence[str]) -> list[StoredPoint]:
        """All chunks of the tenant's documents with these ids."""

    async def payloads(self, tenant: str, document_ids: Sequence[str]) -> list[Payload]:
        """What is stored with all chunks of the tenant's documents with these ids, in no order."""

    async def documents(
        self, tenants: Sequence[str] | None, limit: int, cursor: str | None
    ) -> tuple[list[DocumentRow], str | None]:
        """A page of documents and the cursor of the next; tenants None means all of them."""

    async def document(self, tenant: str, document_id: str) -> DocumentRow | None:
        """One document of one tenant."""

    async def chunks(self, tenant: str, document_id: str, start: int, limit: int) -> list[StoredChunk]:
        """The document's chunks from index `start` to below `start + limit`, in order."""

    async def counts(self, tenants: Sequence[str] | None) -> Counts:
        """Counts over the tenants' chunks; None means all of them."""

    async def search(self, plan: SearchPlan) -> list[Hit]:
        """Best hits first. The tenant filter stands inside every prefetch."""
