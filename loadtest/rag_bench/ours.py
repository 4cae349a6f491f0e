"""Our side: the retriever and the reranker over HTTP, as the generator calls them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from capstan.jobs.evaluate.client import Reranker, Retriever
from capstan.jobs.evaluate.rankings import RANK_K
from capstan.jobs.evaluate.recipe import Arm


@dataclass(frozen=True, slots=True)
class Found:
    """Documents, the best chunk of each deciding, and times in milliseconds by stage."""

    documents: list[str]
    ms: dict[str, float]


class Ours:
    """The default arm of the recipe. Its times hold HTTP, JSON and all."""

    def __init__(self, retriever: Retriever, reranker: Reranker, arm: Arm, *, candidates: int) -> None:
        self._retriever = retriever
        self._reranker = reranker
        self._arm = arm
        self._candidates = candidates

    def answer(self, query: str, mode: str, *, rerank: bool, exclude: Sequence[str]) -> Found:
        """One search, and the reranking of its best chunks."""
        body: dict[str, Any] = {"query": query, "mode": mode, "limit": self._candidates}
        if mode == "hybrid":
            body["fusion"] = self._arm.fusion.model_dump()
        if exclude:
            body["exclude"] = list(exclude)
        started = time.perf_counter()
        answer = self._retriever.call("POST", "/v1/search", json=body)
        retrieved = time.perf_counter()
        results = answer["results"]
        if rerank and self._arm.rerank:
            results = self._reranked(query, results)
        done = time.perf_counter()
        times = {
            "retrieve": _ms(started, retrieved),
            "rerank": _ms(retrieved, done),
            "engine": answer["took_ms"]["search"],
        }
        return Found(list(dict.fromkeys(r["document_id"] for r in results)), times)

    def _reranked(self, query: str, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rerank = self._arm.rerank
        assert rerank is not None
        head, tail = results[: rerank.depth], results[rerank.depth :]
        documents = [
            {"text": _placed(result) if rerank.place else result["text"], "group": result["document_id"]}
            for result in head
        ]
        answer = self._reranker.call("POST", "/v1/rerank", json={"query": query, "documents": documents})
        scores = [0.0] * len(head)
        for result in answer["results"]:
            scores[result["index"]] = result["relevance_score"]
        return [head[place] for place in order(scores, rerank.weight)] + tail

    def score(self, query: str, passages: Sequence[str]) -> dict[str, float]:
        """The time that scoring passages takes, in milliseconds, and the tokens that were read."""
        body = {"query": query, "documents": list(passages), "return_documents": False}
        started = time.perf_counter()
        answer = self._reranker.call("POST", "/v1/rerank", json=body)
        return {"ms": _ms(started, time.perf_counter()), "tokens": answer["usage"]["total_tokens"]}


def order(scores: Sequence[float], weight: float) -> list[int]:
    """Places, best first: `weight` times the reranker's reciprocal rank plus the rest times the retriever's."""
    by_score = sorted(range(len(scores)), key=lambda place: -scores[place])
    rank = {place: n for n, place in enumerate(by_score, 1)}
    value = [weight / (RANK_K + rank[p]) + (1 - weight) / (RANK_K + 1 + p) for p in range(len(scores))]
    return sorted(range(len(scores)), key=lambda place: -value[place])


def _placed(result: dict[str, Any]) -> str:
    return f"{' > '.join(dict.fromkeys((result['title'], *result['heading'])))}\n{result['text']}"


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)
