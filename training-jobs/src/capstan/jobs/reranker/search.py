"""The retriever as the job sees it."""

from typing import Any, Protocol, Self

import httpx2

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.queries import passage_of


class Search(Protocol):
    """Finds chunks, best first: at least document_id, title, heading, text and score of each."""

    def __call__(self, query: str, mode: str, limit: int) -> list[dict[str, Any]]:
        """`mode` is bm25, dense or hybrid."""


class Retriever:
    """A retriever over HTTP; safe to call from several threads."""

    def __init__(self, url: str, tenant: str, secret: str, *, timeout_s: float = 120.0) -> None:
        self._url = url
        self._client = httpx2.Client(base_url=url, timeout=timeout_s)
        self._signer, self._identity = Signer(secret), Identity(tenant, "reranker-job")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def __call__(self, query: str, mode: str, limit: int) -> list[dict[str, Any]]:
        """Search. Raises `RerankerError` when the retriever is not there or refuses."""
        try:
            body = {"query": query, "mode": mode, "limit": limit}
            signed = {IDENTITY_HEADER: self._signer.sign(self._identity)}  # each time: a signature expires
            response = self._client.post("/v1/search", json=body, headers=signed)
        except httpx2.TransportError as error:
            raise RerankerError(
                f"retriever {self._url}: {error or type(error).__name__}; start it and load it"
            ) from None
        if response.status_code != 200:
            raise RerankerError(f"retriever {self._url} answered {response.status_code}: {response.text[:200]}")
        results: list[dict[str, Any]] = response.json()["results"]
        return results


def text_of(result: dict[str, Any]) -> str:
    """A result as the passage that the generator would send to the reranker."""
    return passage_of((result["title"], *result["heading"]), result["text"])
