"""The HTTP API's bodies."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from capstan.retriever.store import Mode

ShortText = Annotated[str, Field(max_length=2000)]
DocumentId = Annotated[str, Field(min_length=1, max_length=512)]


class Body(BaseModel):
    """Unknown fields are a mistake, not something to ignore."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Body):
    """`message` says what to change, `param` names the field, `code` is the machine's word for it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorOut(Body):
    """The body of every error, in OpenAI's shape."""

    error: ErrorDetail


_CAUSES = {
    400: "The request is not valid; the message names the field.",
    401: "The signed identity is missing or not valid.",
    404: "There is no such document or model, or it is another tenant's.",
    413: "The body, the file or its text is too large.",
    415: "The file is of no supported kind.",
    422: "The file cannot be read; the message says why.",
    503: "The store or the reader of files cannot be reached at the moment.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its description."""
    return {status: {"model": ErrorOut, "description": _CAUSES[status]} for status in statuses}


class SectionIn(Body):
    """A piece of a document under one heading path."""

    heading: list[ShortText] = []
    text: str


class DocumentIn(Body):
    """A document; its tenant is that of the request's signed identity."""

    id: DocumentId = Field(description="Yours to choose; may hold slashes.")
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


class FileOut(IngestResult):
    """What became of an uploaded file: a document, under its title."""

    title: str


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


class ChunkOut(Body):
    """A chunk of a document as a reader sees it."""

    id: str
    chunk_index: int
    heading: list[str]
    text: str


class ChunkPage(Body):
    """Chunks in the document's order; `next` is the `from` of the next page, null on the last."""

    document: DocumentOut
    data: list[ChunkOut]
    next: int | None


class DeleteOut(Body):
    """A document that is gone."""

    id: str
    deleted: Literal[True] = True
    chunks: int


class BuildingOut(Body):
    """The index that is being built beside the one in use: how much is in it so far."""

    model: str
    chunks: int
    embedded: int


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
    building: BuildingOut | None = Field(description="The index that takes over when it is complete.")


class FusionIn(Body):
    """How hybrid search joins BM25 and dense."""

    kind: Literal["rrf", "dbsf"] = "rrf"
    rrf_k: int = Field(60, ge=1, le=1000, description="k of reciprocal rank fusion, ranks counted from 1.")
    bm25_weight: float = Field(1.0, ge=0, le=100)
    dense_weight: float = Field(1.0, ge=0, le=100)
    candidates: int = Field(50, ge=1, le=1000, description="Length of each list before fusion.")
    siblings: float = Field(
        0.0,
        ge=0,
        le=1,
        description="What chunks of one document add to each other: weight of the next best one.",
    )


class SearchIn(Body):
    """A search over the tenant's chunks and the shared ones."""

    query: str
    mode: Mode = "hybrid"
    limit: int = Field(10, ge=1)
    source: str | None = Field(None, description="Only chunks of documents with this source.")
    exclude: list[DocumentId] = Field([], max_length=100, description="Documents that are never returned, by id.")
    per_document: int | None = Field(
        None,
        ge=1,
        description="Most chunks of one document; taken from the `fusion.candidates` best, so there may be fewer.",
    )
    explain: bool = Field(False, description="Send what each list of a hybrid search found, too.")
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


class Stages(Body):
    """What each list of a hybrid search found, each with its own scores: BM25, and cosine."""

    bm25: list[ResultOut]
    dense: list[ResultOut]


class SearchOut(Body):
    """`dense_coverage` below 1: dense search sees only that part of the chunks yet, BM25 all of them."""

    query: str
    mode: Mode
    model: str
    dense_coverage: float
    took_ms: Took
    results: list[ResultOut]
    stages: Stages | None = Field(None, description="With `explain`, of a hybrid search.")


class EmbeddingsIn(Body):
    """OpenAI's request; `dimensions` is the model's and not to be chosen."""

    input: str | list[str] = Field(description="A text, or up to 64 of them.")
    model: str | None = Field(None, description="The retriever's own, or left out.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: of little-endian float32.")
    user: str | None = Field(None, description="Not used.")


class Embedding(Body):
    """A vector of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Body):
    """Tokens that the model has read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(Body):
    """OpenAI's answer, in the order of the input."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
