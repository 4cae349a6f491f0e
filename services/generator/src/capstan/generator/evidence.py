"""Evidence for a question: what the retriever finds, in the order that the reranker gives it."""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

from capstan.common.errors import ApiError

log = logging.getLogger("capstan.generator.evidence")


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a document as evidence. `relevance` is the reranker's score in 0..1, None without it."""

    chunk_id: str
    document_id: str
    title: str
    heading: tuple[str, ...]
    text: str
    url: str
    source: str
    license: str
    relevance: float | None = None

    @property
    def place(self) -> str:
        """Title and heading path, as a reader would name the place."""
        return " > ".join(dict.fromkeys((self.title, *self.heading)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """Passages, best first. `unranked` says why the reranker's order is missing, if it is."""

    passages: list[Passage] = field(default_factory=list)
    unranked: str | None = None

    @property
    def best(self) -> float | None:
        """The best reranker score, or None where there is none."""
        return self.passages[0].relevance if self.passages else None


class EvidenceFinder:
    """Asks the retriever, then the reranker."""

    def __init__(self, retriever: httpx2.AsyncClient, reranker: httpx2.AsyncClient, *, candidates: int) -> None:
        self._retriever = retriever
        self._reranker = reranker
        self._candidates = candidates

    async def find(self, question: str, headers: dict[str, str]) -> Evidence:
        """Evidence for `question`. Raises `ApiError` (503) when the retriever is down.

        A reranker that is down costs the order, not the answer.
        """
        found = await self._search(question, headers)
        if not found:
            return Evidence()
        try:
            scores = await self._rerank(question, [_as_text(p) for p in found], headers)
        except (httpx2.HTTPError, KeyError, ValueError) as error:
            log.warning("reranker unavailable, keeping the retriever's order", extra={"error": repr(error)})
            return Evidence(found, unranked="the reranker is unavailable; passages are in the retriever's order")
        ranked = [_scored(found[index], score) for index, score in scores]
        return Evidence(ranked)

    async def _search(self, question: str, headers: dict[str, str]) -> list[Passage]:
        body = {"query": question, "mode": "hybrid", "limit": self._candidates}
        for last_try in (False, True):
            try:
                response = await self._retriever.post("/v1/search", json=body, headers=headers)
                break
            except httpx2.TransportError as error:
                if last_try:
                    message = f"the retriever is unavailable ({type(error).__name__}); try again in a moment"
                    raise ApiError(503, "retriever_unavailable", message, retry_after=5) from None
                await asyncio.sleep(0.05)  # a connection that the retriever had closed
        if response.status_code != 200:
            message = f"the retriever could not search: {_reason(response)}"
            raise ApiError(503, "retriever_unavailable", message, retry_after=5)
        return [_passage(result) for result in response.json()["results"]]

    async def _rerank(self, question: str, texts: list[str], headers: dict[str, str]) -> list[tuple[int, float]]:
        body = {"query": question, "documents": texts, "return_documents": False}
        response = await self._reranker.post("/v1/rerank", json=body, headers=headers)
        response.raise_for_status()
        return [(int(r["index"]), float(r["relevance_score"])) for r in response.json()["results"]]


def _as_text(passage: Passage) -> str:
    return f"{passage.place}\n{passage.text}"


def _passage(result: dict[str, Any]) -> Passage:
    return Passage(
        chunk_id=result["id"],
        document_id=result["document_id"],
        title=result["title"],
        heading=tuple(result["heading"]),
        text=result["text"],
        url=result["url"] or "",
        source=result["source"] or "",
        license=result["license"] or "",
    )


def _scored(passage: Passage, score: float) -> Passage:
    return replace(passage, relevance=score)


def _reason(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
