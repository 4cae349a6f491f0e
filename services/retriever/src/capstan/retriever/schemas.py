"""The HTTP API's bodies."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from capstan.retriever.store import Mode

ShortText = Annotated[str, Field(max_length=2000)]


class Body(BaseModel):
    """Unknown fields are a mistake, not something to ignore."""

    model_config = ConfigDict(extra="forbid")


class SectionIn(Body):
    """A piece of a document under one heading path."""

    heading: list[ShortText] = []
    text: str


class DocumentIn(Body):
    """A document; its tenant is that of the request's signed identity."""

    id: str = Field(min_length=1, max_length=512, description="Yours to choose; may hold slashes.")
    title: ShortText = ""
    sections: list[SectionIn]
    source: ShortText | None = Field(None, description="Where it is from; searches can be filtered by it.")
    license: ShortText | None = None
    url: ShortText | None = None
    revision: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="The same revision again is not read; default: a hash of the content."
    )


class DocumentsIn(Body):
    """A batch."""

    documents: list[DocumentIn] = Field(min_length=1)


class IngestResult(Body):
    """What became of one document."""

    id: str
    status: Literal["created", "updated", "unchanged"]
    chunks: int


class IngestOut(Body):
    """In the order of the batch."""

    results: list[IngestResult]


class DocumentOut(Body):
    """A document in the index; `embedded` of its `chunks` have a dense vector."""

    id: str
    tenant: str
    revision: str
    title: str
    chunks: int
    embedded: int


class DocumentPage(Body):
    """`next` is the cursor of the next page, null on the last."""

    data: list[DocumentOut]
    next: str | None


class DeleteOut(Body):
    """A document that is gone."""

    id: str
    deleted: Literal[True] = True
    chunks: int


class IndexOut(Body):
    """Counts over what the tenant can read; speed and estimate are those of the whole worker."""

    documents: int
    chunks: int
    embedded: int
    pending: int
    embedding_per_s: float
    eta_s: float | None
    model: str
    runtime: str
    store: str


class FusionIn(Body):
    """How hybrid search joins BM25 and dense."""

    kind: Literal["rrf", "dbsf"] = "rrf"
    rrf_k: int = Field(60, ge=1, le=1000, description="k of reciprocal rank fusion, ranks counted from 1.")
    bm25_weight: float = Field(1.0, ge=0, le=100)
    dense_weight: float = Field(1.0, ge=0, le=100)
    candidates: int = Field(50, ge=1, le=1000, description="Length of each list before fusion.")


class SearchIn(Body):
    """A search over the tenant's chunks and the shared ones."""

    query: str
    mode: Mode = "hybrid"
    limit: int = Field(10, ge=1)
    source: str | None = Field(None, description="Only chunks of documents with this source.")
    fusion: FusionIn = FusionIn()


class Took(Body):
    """Milliseconds."""

    embed: float
    search: float
    total: float


class ResultOut(Body):
    """A chunk that was found."""

    id: str
    document_id: str
    title: str
    heading: list[str]
    text: str
    url: str | None
    source: str | None
    license: str | None
    score: float
    chunk_index: int
    tenant: str


class SearchOut(Body):
    """`dense_coverage` below 1: dense search sees only that part of the chunks yet, BM25 all of them."""

    query: str
    mode: Mode
    model: str
    dense_coverage: float
    took_ms: Took
    results: list[ResultOut]
