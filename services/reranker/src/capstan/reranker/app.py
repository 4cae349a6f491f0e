"""The reranker's HTTP API."""

import asyncio
import secrets
import time
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, FastAPI

from capstan.common.app import create_app, require_identity
from capstan.common.errors import ApiError
from capstan.common.identity import Identity
from capstan.common.telemetry import exemplar, span
from capstan.reranker.metrics import Metrics
from capstan.reranker.schemas import ModelOut, ModelsOut, RerankIn, RerankOut, RerankResult, TextDocument, Usage
from capstan.reranker.scorers import Scorer
from capstan.reranker.scores import Scores
from capstan.reranker.settings import RerankerSettings
from capstan.reranker.support import supported

Caller = Annotated[Identity, Depends(require_identity)]


def create(settings: RerankerSettings, scorer: Scorer) -> FastAPI:
    """The application over a loaded scorer."""
    metrics = Metrics()
    app = create_app(
        "reranker",
        settings=settings,
        ready=lambda: None,
        registry=metrics.registry,
        max_body_bytes=settings.max_body_bytes,
    )
    waiting = 0

    async def rerank(body: RerankIn, caller: Caller) -> RerankOut:
        """Score passages against a query, best first."""
        nonlocal waiting
        check(body, settings)
        if waiting >= settings.max_waiting:
            metrics.refused.inc()
            raise ApiError(503, "overloaded", f"{waiting} rerank requests are waiting; try again", retry_after=1)
        waiting += 1
        metrics.waiting.set(waiting)
        started = time.perf_counter()
        try:
            with span("score", passages=len(body.documents)):
                scores = await asyncio.to_thread(scorer.score, body.query, body.texts())
        finally:
            waiting -= 1
            metrics.waiting.set(waiting)
        seconds = time.perf_counter() - started
        _count(metrics, scores, seconds)
        values = supported(scores.values, body.groups(), settings.support)
        return _answer(body, replace(scores, values=values), settings.model, scorer.name, seconds)

    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        app.post(path, tags=["rerank"], response_model_exclude_none=True, include_in_schema=path == "/v1/rerank")(
            rerank
        )

    @app.get("/v1/models", tags=["rerank"])
    async def models() -> ModelsOut:
        """Which scorer is active and what its scores mean."""
        model = ModelOut(
            id=settings.model,
            scorer=scorer.name,
            method=scorer.method,
            scale=scorer.scale,
            runtime=scorer.runtime,
            passage_tokens=settings.passage_tokens,
        )
        return ModelsOut(data=[model])

    return app


def check(body: RerankIn, settings: RerankerSettings) -> None:
    """Refuse what cannot be scored. Raises `ApiError`."""
    if body.model is not None and body.model != settings.model:
        message = f"model {body.model!r} is not loaded; leave model out or send {settings.model!r}"
        raise ApiError(404, "model_not_found", message, param="model")
    if not body.query.strip():
        raise ApiError(400, "empty_query", "query is empty; send what to rank for", param="query")
    if len(body.query) > settings.max_query_chars:
        message = f"query has {len(body.query)} characters; send at most {settings.max_query_chars}"
        raise ApiError(400, "query_too_long", message, param="query")
    if not body.documents:
        raise ApiError(400, "no_documents", "documents is empty; send the passages to rank", param="documents")
    if len(body.documents) > settings.max_documents:
        message = f"{len(body.documents)} documents; send at most {settings.max_documents}"
        raise ApiError(400, "too_many_documents", message, param="documents")
    for index, text in enumerate(body.texts()):
        if not text.strip():
            raise ApiError(400, "empty_document", f"documents[{index}] is empty; leave it out", param="documents")
        if len(text) > settings.max_document_chars:
            message = f"documents[{index}] has {len(text)} characters; send at most {settings.max_document_chars}"
            raise ApiError(400, "document_too_long", message, param="documents")


def _answer(body: RerankIn, scores: Scores, model: str, scorer: str, seconds: float) -> RerankOut:
    texts = body.texts()
    best = sorted(range(len(texts)), key=lambda index: (-scores.values[index], index))[: body.top_n]
    results = [
        RerankResult(
            index=index,
            relevance_score=scores.values[index],
            document=TextDocument(text=texts[index]) if body.return_documents else None,
        )
        for index in best
    ]
    return RerankOut(
        id=f"rerank-{secrets.token_hex(12)}",
        model=model,
        results=results,
        usage=Usage(prompt_tokens=scores.tokens, total_tokens=scores.tokens),
        meta={"scorer": scorer, "took_ms": round(seconds * 1000, 2)},
    )


def _count(metrics: Metrics, scores: Scores, seconds: float) -> None:
    metrics.seconds.observe(seconds, exemplar())
    metrics.tokens.inc(scores.tokens)
    metrics.passages.labels("yes").inc(scores.cached)
    metrics.passages.labels("no").inc(len(scores.values) - scores.cached)
