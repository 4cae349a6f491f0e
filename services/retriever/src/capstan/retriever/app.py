"""The retriever's HTTP API."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse

from capstan.common.app import create_app, require_identity
from capstan.common.errors import ApiError
from capstan.common.identity import SHARED_TENANT, Identity
from capstan.retriever.chunking import Section
from capstan.retriever.embedder import Embedder
from capstan.retriever.ingest import Ingest, InvalidDocument, NewDocument
from capstan.retriever.lexical import Lexicon
from capstan.retriever.metrics import Metrics
from capstan.retriever.schemas import (
    DeleteOut,
    DocumentIn,
    DocumentOut,
    DocumentPage,
    DocumentsIn,
    IndexOut,
    IngestOut,
    IngestResult,
    ResultOut,
    SearchIn,
    SearchOut,
    Took,
)
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import Floats, Fusion, Hit, SearchPlan, StoreError, VectorStore
from capstan.retriever.tokens import TokenCounter
from capstan.retriever.worker import Worker

Caller = Annotated[Identity, Depends(require_identity)]


class Retriever:
    """What the routes share."""

    def __init__(self, settings: RetrieverSettings, store: VectorStore, embedder: Embedder) -> None:
        self.settings = settings
        self.store = store
        self.metrics = Metrics()
        self.worker = Worker(store, embedder, self.metrics, threads=settings.embed_threads)
        self.ingest = Ingest(
            store,
            TokenCounter(embedder.count_words),
            chunk_tokens=settings.chunk_tokens,
            small_tokens=settings.small_tokens,
        )
        self.embedder = embedder
        self._lexicon = Lexicon()
        self._queries = ThreadPoolExecutor(2, thread_name_prefix="query")

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """The worker runs while the application does."""
        task = asyncio.create_task(self.worker.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._queries.shutdown(cancel_futures=True)
            await self.store.close()

    async def search(self, tenant: str, body: SearchIn) -> SearchOut:
        """One search, timed."""
        started = time.perf_counter()
        dense: Floats | None = None
        if body.mode != "bm25":
            loop = asyncio.get_running_loop()
            dense = await loop.run_in_executor(self._queries, self.embedder.embed, body.query)
        bm25 = self._lexicon.query(body.query) if body.mode != "dense" else None
        embedded = time.perf_counter()
        fusion = Fusion(**body.fusion.model_dump())
        hits: list[Hit] = []
        if dense is not None or bm25 is not None:
            plan = SearchPlan(_readable(tenant), body.limit, bm25, dense, body.source, fusion)
            hits = await self.store.search(plan)
        done = time.perf_counter()
        self._count(body.mode, embedded - started, done - embedded, bool(hits))
        return SearchOut(
            query=body.query,
            mode=body.mode,
            model=self.settings.model,
            dense_coverage=round(self.worker.progress.coverage, 4),
            took_ms=Took(embed=_ms(started, embedded), search=_ms(embedded, done), total=_ms(started, done)),
            results=[_result(hit) for hit in hits],
        )

    def _count(self, mode: str, embed: float, search: float, found: bool) -> None:
        self.metrics.search_seconds.labels(mode, "embed").observe(embed)
        self.metrics.search_seconds.labels(mode, "search").observe(search)
        if not found:
            self.metrics.empty_searches.labels(mode).inc()


def create(settings: RetrieverSettings, store: VectorStore, embedder: Embedder) -> FastAPI:
    """The application over an open store and a loaded embedder."""
    retriever = Retriever(settings, store, embedder)
    app = create_app(
        "retriever",
        settings=settings,
        ready=lambda: None,
        registry=retriever.metrics.registry,
        lifespan=retriever.running,
        max_body_bytes=settings.max_body_bytes,
    )
    app.state.retriever = retriever
    app.add_exception_handler(StoreError, _store_is_away)
    _add_documents(app, retriever)
    _add_search(app, retriever)
    return app


def _add_documents(app: FastAPI, retriever: Retriever) -> None:
    limit = retriever.settings.max_batch_documents

    @app.post("/v1/documents", tags=["documents"])
    async def put_documents(body: DocumentsIn, caller: Caller) -> IngestOut:
        """Index a batch: findable by BM25 and on disk when this answers, embedded soon after."""
        if len(body.documents) > limit:
            raise ApiError(
                400,
                "batch_too_large",
                f"{len(body.documents)} documents in one batch; send at most {limit}",
                param="documents",
            )
        try:
            outcomes = await retriever.ingest.ingest(caller.tenant, [_document(d) for d in body.documents])
        except InvalidDocument as error:
            raise ApiError(400, "invalid_document", str(error), param="documents") from None
        for outcome in outcomes:
            retriever.metrics.ingested.labels(outcome.status).inc()
        await retriever.worker.wake()
        return IngestOut(results=[IngestResult(**asdict(outcome)) for outcome in outcomes])

    @app.get("/v1/documents", tags=["documents"])
    async def list_documents(
        caller: Caller, limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: str | None = None
    ) -> DocumentPage:
        """The tenant's documents and the shared ones, in no particular but a stable order."""
        if cursor is not None and not _is_uuid(cursor):
            raise ApiError(400, "invalid_cursor", "cursor is not one of a page's `next`", param="cursor")
        rows, following = await retriever.store.documents(_readable(caller.tenant), limit, cursor)
        return DocumentPage(data=[DocumentOut(**asdict(row)) for row in rows], next=following)

    @app.get("/v1/documents/{document_id:path}", tags=["documents"])
    async def get_document(document_id: str, caller: Caller) -> DocumentOut:
        """One document: the tenant's own, else the shared one of that id."""
        for tenant in _readable(caller.tenant):
            if row := await retriever.store.document(tenant, document_id):
                return DocumentOut(**asdict(row))
        raise _not_found(document_id)

    @app.delete("/v1/documents/{document_id:path}", tags=["documents"])
    async def delete_document(document_id: str, caller: Caller) -> DeleteOut:
        """Remove one of the tenant's own documents."""
        chunks = await retriever.ingest.delete(caller.tenant, document_id)
        if not chunks:
            raise _not_found(document_id)
        return DeleteOut(id=document_id, chunks=chunks)


def _add_search(app: FastAPI, retriever: Retriever) -> None:
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
        return await retriever.search(caller.tenant, body)

    @app.get("/v1/index", tags=["search"])
    async def index(caller: Caller) -> IndexOut:
        """How much there is and how far embedding has come."""
        counts = await retriever.store.counts(_readable(caller.tenant))
        progress = retriever.worker.progress
        return IndexOut(
            documents=counts.documents,
            chunks=counts.chunks,
            embedded=counts.embedded,
            pending=counts.pending,
            embedding_per_s=round(progress.per_s, 2),
            eta_s=None if progress.eta_s is None else round(progress.eta_s, 1),
            model=settings.model,
            runtime=retriever.embedder.runtime,
            store="edge" if settings.qdrant_url is None else "server",
        )


async def _store_is_away(_: Request, error: Exception) -> JSONResponse:
    away = ApiError(503, "store_unavailable", str(error), retry_after=5)
    return JSONResponse(away.body(), status_code=503, headers=away.headers)


def _readable(tenant: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((tenant, SHARED_TENANT)))


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _document(body: DocumentIn) -> NewDocument:
    sections = tuple(Section(tuple(section.heading), section.text) for section in body.sections)
    return NewDocument(body.id, body.title, sections, body.source, body.license, body.url, body.revision)


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


def _not_found(document_id: str) -> ApiError:
    return ApiError(404, "document_not_found", f"there is no document {document_id!r}", param="document_id")


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 2)
