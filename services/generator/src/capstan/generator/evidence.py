"""Evidence for a question: what the retriever finds, in the order that the reranker gives it."""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

from capstan.common.errors import ApiError
from capstan.common.telemetry import span
from capstan.generator.options import AnswerOptions
from capstan.generator.passages import Chunk, Passage
from capstan.generator.stopwatch import Stopwatch

log = logging.getLogger("capstan.generator.evidence")

RANK_K = 60
"""k of the reciprocal ranks that weigh reranker against retriever (Cormack et al. 2009), ranks counted from 1."""
_TRACE_CHARS = 300

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Passages, best first. `unranked` says why the reranker's order is missing, if it should be there and is not.

    `stages` is what each stage found, by its name, if a trace was asked for.
    """

    passages: list[Passage] = field(default_factory=list)
    unranked: str | None = None
    stages: dict[str, list[dict[str, Any]]] | None = None

    @property
    def reranked(self) -> bool:
        """Whether a reranker has seen these passages."""
        return any(passage.relevance is not None for passage in self.passages)

    @property
    def best(self) -> float | None:
        """The best reranker score, or None where there is none."""
        return max((p.relevance for p in self.passages if p.relevance is not None), default=None)


class EvidenceFinder:
    """Asks the retriever, then the reranker."""

    def __init__(self, retriever: httpx2.AsyncClient, reranker: httpx2.AsyncClient) -> None:
        self._retriever = retriever
        self._reranker = reranker

    async def find(self, question: str, options: AnswerOptions, headers: Headers, timed: Stopwatch) -> Evidence:
        """Evidence for `question`; `options` is complete. Raises `ApiError` (503) when the retriever is down.

        A reranker that is down costs the order, not the answer. `timed` gets `retrieve` and `rerank`.
        """
        with timed("retrieve"), span("retrieve", mode=options.mode, limit=options.candidates):
            answer = await self._search(question, options, headers)
        found = [_passage(result) for result in answer["results"]]
        stages = _stages(answer) if options.trace else None
        if not found or not options.rerank:
            return Evidence(found, stages=stages)
        try:
            with timed("rerank"), span("rerank", passages=len(found)):
                scores = await self._rerank(question, found, headers)
        except (httpx2.HTTPError, KeyError, ValueError) as error:
            log.warning("reranker unavailable, keeping the retriever's order", extra={"error": repr(error)})
            note = "the reranker is unavailable; passages are in the retriever's order"
            return Evidence(found, unranked=note, stages=stages)
        ranked = _ordered(found, scores, 1.0 if options.rerank_weight is None else options.rerank_weight)
        if stages is not None:
            stages["reranked"] = [_item(_of(p), p.relevance) for p in ranked]
        return Evidence(ranked, stages=stages)

    async def neighbours(self, passage: Passage, reach: int, headers: Headers) -> list[Chunk]:
        """The chunks of the passage's document at most `reach` away from it, in order, itself included.

        Empty when the retriever does not give them: a passage that is not widened is still evidence.
        """
        first = max(0, passage.index - reach)
        query: dict[str, str | int] = {
            "document_id": passage.document_id,
            "from": first,
            "limit": passage.index + reach + 1 - first,
        }
        try:
            response = await self._retriever.get("/v1/chunks", params=query, headers=headers)
            response.raise_for_status()
            return [
                Chunk(int(c["chunk_index"]), str(c["id"]), str(c["text"]), tuple(c["heading"]))
                for c in response.json()["data"]
            ]
        except (httpx2.HTTPError, KeyError, ValueError, TypeError) as error:
            log.warning("a passage's neighbours are unavailable", extra={"error": repr(error)})
            return []

    async def _search(self, question: str, options: AnswerOptions, headers: Headers) -> dict[str, Any]:
        body: dict[str, Any] = {"query": question, "mode": options.mode, "limit": options.candidates}
        if fusion := options.fusion.model_dump(exclude_none=True):
            body["fusion"] = fusion
        if options.exclude:
            body["exclude"] = options.exclude
        if options.trace:
            body["explain"] = True
        for last_try in (False, True):
            try:
                response = await self._retriever.post("/v1/search", json=body, headers=headers)
                break
            except httpx2.TransportError as error:
                if last_try:
                    message = f"the retriever is unavailable ({type(error).__name__}); try again in a moment"
                    raise ApiError(503, "retriever_unavailable", message, retry_after=5) from None
                await asyncio.sleep(0.05)  # a connection that the retriever had closed
        if response.status_code == 400:  # the client's own choice: too many candidates, an over-long query
            raise ApiError(400, "invalid_request", f"the retriever refuses: {_reason(response)}", param="capstan")
        if response.status_code != 200:
            message = f"the retriever could not search: {_reason(response)}"
            raise ApiError(503, "retriever_unavailable", message, retry_after=5)
        found: dict[str, Any] = response.json()
        return found

    async def _rerank(self, question: str, found: list[Passage], headers: Headers) -> list[tuple[int, float]]:
        """Index and score, best first. Passages of one document support each other."""
        documents = [{"text": _as_text(p), "group": p.document_id} for p in found]
        body = {"query": question, "documents": documents, "return_documents": False}
        response = await self._reranker.post("/v1/rerank", json=body, headers=headers)
        response.raise_for_status()
        return [(int(r["index"]), float(r["relevance_score"])) for r in response.json()["results"]]


def _ordered(found: list[Passage], scores: list[tuple[int, float]], weight: float) -> list[Passage]:
    """Best first by the weighted reciprocal ranks of reranker and retriever."""
    value = {
        index: weight / (RANK_K + rank) + (1 - weight) / (RANK_K + 1 + index)
        for rank, (index, _) in enumerate(scores, start=1)
    }
    best_first = sorted(scores, key=lambda pair: -value[pair[0]])
    return [replace(found[index], relevance=score) for index, score in best_first]


def _stages(answer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The lists before fusion if the retriever explains them, and its final order under `fused` or its mode."""
    lists: dict[str, list[dict[str, Any]]] = {"bm25": [], "dense": [], "fused": [], "reranked": []}
    for name, results in (answer.get("stages") or {}).items():
        lists[name] = [_item(result, result["score"]) for result in results]
    last = "fused" if answer.get("mode", "hybrid") == "hybrid" else answer["mode"]
    lists[last] = [_item(result, result["score"]) for result in answer["results"]]
    return lists


def _item(result: dict[str, Any], score: float | None) -> dict[str, Any]:
    return {
        "chunk_id": result["id"],
        "document_id": result["document_id"],
        "title": result["title"],
        "heading": list(result["heading"]),
        "score": score,
        "text": result["text"][:_TRACE_CHARS],
    }


def _of(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.chunk_id,
        "document_id": passage.document_id,
        "title": passage.title,
        "heading": passage.heading,
        "text": passage.text,
    }


def _as_text(passage: Passage) -> str:
    return f"{passage.place}\n{passage.text}"


def _passage(result: dict[str, Any]) -> Passage:
    heading = tuple(result["heading"])
    return Passage(
        chunk_id=result["id"],
        document_id=result["document_id"],
        title=result["title"],
        heading=heading,
        text=result["text"],
        url=result["url"] or "",
        source=result["source"] or "",
        license=result["license"] or "",
        chunks=(Chunk(int(result["chunk_index"]), result["id"], result["text"], heading),),
    )


def _reason(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
