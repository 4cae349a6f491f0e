"""Routes that search, embed and count."""

import asyncio
import base64
import time
from dataclasses import replace

import numpy as np
from fastapi import FastAPI

from capstan.common.errors import ApiError
from capstan.common.telemetry import span
from capstan.retriever.index import Index
from capstan.retriever.schemas import (
    BuildingOut,
    Embedding,
    EmbeddingsIn,
    EmbeddingsOut,
    EmbeddingUsage,
    IndexOut,
    ResultOut,
    SearchIn,
    SearchOut,
    Stages,
    Took,
)
from capstan.retriever.state import Caller, Retriever, readable
from capstan.retriever.store import Floats, Fusion, Hit, SearchPlan, VectorStore

MAX_TEXTS = 64  # in one request for embeddings


def add_search(app: FastAPI, retriever: Retriever) -> None:
    """Search, embeddings, and the state of the index."""
    settings = retriever.settings

    @app.post("/v1/search", tags=["search"])
    async def search(body: SearchIn, caller: Caller) -> SearchOut:
        """BM25, dense or hybrid search over the tenant's chunks and the shared ones."""
        if not body.query.strip():
            raise ApiError(400, "empty_query", "query is empty; send what to search for", param="query")
        if len(body.query) > settings.max_query_chars:
            message = f"query has {len(body.query)} characters; send at most {settings.max_query_chars}"
            raise ApiError(400, "query_too_long", message, param="query")
        if body.limit > settings.max_results:
            raise ApiError(
                400, "limit_too_large", f"limit is {body.limit}; ask for at most {settings.max_results}", param="limit"
            )
        return await find(retriever, caller.tenant, body)

    @app.post("/v1/embeddings", tags=["search"])
    async def embeddings(body: EmbeddingsIn, _: Caller) -> EmbeddingsOut:
        """Vectors of length 1 by the retriever's own embedder, which reads the first `VIEW_TOKENS` tokens of a text."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        model = retriever.index.settings.model
        if body.model not in (None, model):
            message = f"there is no model {body.model!r}; leave model out or send {model!r}"
            raise ApiError(404, "model_not_found", message, param="model")
        if not 1 <= len(texts) <= MAX_TEXTS:
            message = f"input has {len(texts)} texts; send 1 to {MAX_TEXTS}"
            raise ApiError(400, "invalid_input", message, param="input")
        if not all(text.strip() for text in texts):
            raise ApiError(400, "invalid_input", "input has an empty text; leave it out", param="input")
        with span("embed", texts=len(texts)):
            vectors = await retriever.embed_texts(texts)
        tokens = sum(retriever.embedder.count_words(texts))
        return EmbeddingsOut(
            model=model,
            data=[
                Embedding(index=index, embedding=_encoded(vector, body.encoding_format == "base64"))
                for index, vector in enumerate(vectors)
            ],
            usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
        )

    @app.get("/v1/index", tags=["search"])
    async def index(caller: Caller) -> IndexOut:
        """How much there is and how far embedding has come."""
        mine = readable(caller.tenant)
        counts = await retriever.store.counts(mine)
        progress = retriever.worker.progress
        build = retriever.build
        return IndexOut(
            documents=counts.documents,
            chunks=counts.chunks,
            embedded=counts.embedded,
            pending=counts.pending,
            embedding_per_s=round(progress.per_s, 2),
            eta_s=None if progress.eta_s is None else round(progress.eta_s, 1),
            model=retriever.index.settings.model,
            runtime=retriever.embedder.runtime,
            store="edge" if settings.qdrant_url is None else "server",
            building=await _building(build.new, mine) if build else None,
        )


async def _building(new: Index, tenants: tuple[str, ...]) -> BuildingOut:
    counts = await new.store.counts(tenants)
    return BuildingOut(model=new.settings.model, chunks=counts.chunks, embedded=counts.embedded)


async def find(retriever: Retriever, tenant: str, body: SearchIn) -> SearchOut:
    """One search, timed; what it explains comes from the same vectors and filters, after the clock has stopped."""
    index = retriever.index  # one for the whole search, also if another takes over meanwhile
    started = time.perf_counter()
    dense = None if body.mode == "bm25" else await _query_vector(retriever, index, body.query)
    bm25 = None if body.mode == "dense" else retriever.lexicon.query(body.query)
    embedded = time.perf_counter()
    fusion = Fusion(**body.fusion.model_dump())
    exclude = tuple(body.exclude)
    plan = SearchPlan(readable(tenant), body.limit, bm25, dense, body.source, fusion, exclude, body.per_document)
    with span("search", mode=body.mode, limit=body.limit):
        hits = await _hits(index.store, plan)
    done = time.perf_counter()
    retriever.metrics.search(body.mode, embedded - started, done - embedded, bool(hits))
    return SearchOut(
        query=body.query,
        mode=body.mode,
        model=index.settings.model,
        dense_coverage=round(index.worker.progress.coverage, 4),
        took_ms=Took(embed=_ms(started, embedded), search=_ms(embedded, done), total=_ms(started, done)),
        results=[_result(hit) for hit in hits],
        stages=await _stages(index.store, plan) if body.explain and body.mode == "hybrid" else None,
    )


async def _query_vector(retriever: Retriever, index: Index, query: str) -> Floats:
    with span("embed"):
        return await retriever.embed_query(index.embedder, query)


async def _hits(store: VectorStore, plan: SearchPlan) -> list[Hit]:
    """Nothing for a query without a vector: by BM25, one of stop words alone."""
    return [] if plan.bm25 is None and plan.dense is None else await store.search(plan)


async def _stages(store: VectorStore, plan: SearchPlan) -> Stages:
    """The two lists as they were fused, of each as much as the answer is long."""
    plan = replace(plan, limit=min(plan.limit, plan.fusion.candidates), per_document=None)
    bm25, dense = await asyncio.gather(_hits(store, replace(plan, dense=None)), _hits(store, replace(plan, bm25=None)))
    return Stages(bm25=[_result(hit) for hit in bm25], dense=[_result(hit) for hit in dense])


def _result(hit: Hit) -> ResultOut:
    p = hit.payload
    return ResultOut(
        id=hit.id,
        document_id=p.document_id,
        title=p.title,
        heading=p.heading,
        text=p.text,
        url=p.url,
        source=p.source,
        license=p.license,
        score=hit.score,
        chunk_index=p.chunk_index,
        tenant=p.tenant,
    )


def _encoded(vector: Floats, as_base64: bool) -> list[float] | str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode() if as_base64 else vector.tolist()


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 2)
