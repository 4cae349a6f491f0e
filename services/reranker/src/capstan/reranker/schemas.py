"""The HTTP API's bodies: the common ground of Cohere's v1 and v2, Jina's and vLLM's rerank API."""

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator


class TextDocument(BaseModel):
    """A passage as an object; other fields are ignored."""

    text: str
    group: str | None = Field(
        None,
        max_length=1000,
        description="What it belongs to, such as a document's id: one group's passages support each other.",
    )


class RerankIn(BaseModel):
    """Fields of other rerank APIs that are not listed are ignored."""

    query: str
    documents: list[str | TextDocument]
    model: str | None = Field(None, description="Default: the one that is loaded.")
    top_n: int | None = Field(None, ge=1, description="Results to return; default: all.")
    return_documents: bool = False

    @field_validator("documents", mode="before")
    @classmethod
    def _texts_or_objects(cls, documents: Any) -> Any:
        """One clear error instead of one for each member of the union."""
        if not isinstance(documents, list):
            raise ValueError("is not a list of passages")  # noqa: TRY004 (pydantic wants a ValueError)
        for index, document in enumerate(documents):
            if not isinstance(document.get("text") if isinstance(document, dict) else document, str):
                raise ValueError(f"documents[{index}] is neither a text nor an object with a text")  # noqa: TRY004
        return documents

    def groups(self) -> list[str | None]:
        """What each passage belongs to."""
        return [None if isinstance(document, str) else document.group for document in self.documents]

    def texts(self) -> list[str]:
        """The passages as text."""
        return [document if isinstance(document, str) else document.text for document in self.documents]


class RerankResult(BaseModel):
    """`index` is the passage's place in the request."""

    index: int
    relevance_score: float
    document: TextDocument | None = None


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class RerankOut(BaseModel):
    """Best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: Usage
    meta: dict[str, Any]


class ModelOut(BaseModel):
    """A model, and how it scores."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "capstan"
    scorer: str
    method: str
    scale: str
    runtime: str
    passage_tokens: int


class ModelsOut(BaseModel):
    """The one model that is loaded."""

    object: Literal["list"] = "list"
    data: list[ModelOut]
