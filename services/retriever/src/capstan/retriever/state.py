"""What the routes share."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI

from capstan.common.app import require_identity
from capstan.common.errors import ApiError
from capstan.common.identity import SHARED_TENANT, Identity
from capstan.retriever.build import Build, Successor
from capstan.retriever.embedder import Embedder
from capstan.retriever.extraction import Extraction
from capstan.retriever.index import Index
from capstan.retriever.ingest import Ingest, NewDocument, Outcome
from capstan.retriever.lexical import Lexicon
from capstan.retriever.metrics import Metrics
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import DocumentRow, Floats, VectorStore
from capstan.retriever.worker import Worker

Caller = Annotated[Identity, Depends(require_identity)]


class Retriever:
    """The index in use, what works with it, and the build of the one that is to replace it, if there is one."""

    def __init__(
        self, settings: RetrieverSettings, store: VectorStore, embedder: Embedder, successor: Successor | None = None
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.lexicon = Lexicon()
        self.index = Index(settings, store, embedder, self.metrics)
        self.extraction = Extraction(
            seconds=settings.extract_s,
            memory_bytes=settings.extract_memory_bytes,
            max_characters=settings.max_body_bytes,  # as in documents that come as JSON
        )
        self._writes = asyncio.Lock()
        self.build = self._build(successor) if successor else None
        self._retired: list[VectorStore] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._queries = ThreadPoolExecutor(2, thread_name_prefix="query")
        self._texts = ThreadPoolExecutor(2, thread_name_prefix="text")  # its own, so that no search queues behind them

    @property
    def store(self) -> VectorStore:
        """The store in use."""
        return self.index.store

    @property
    def embedder(self) -> Embedder:
        """The embedder in use."""
        return self.index.embedder

    @property
    def ingest(self) -> Ingest:
        """Writes to the index in use alone: `put` and `delete` are for the routes."""
        return self.index.ingest

    @property
    def worker(self) -> Worker:
        """Embeds for the index in use."""
        return self.index.worker

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """The worker and the build run while the application does."""
        embedding = asyncio.create_task(self.worker.run())
        self._tasks = [embedding, asyncio.create_task(self.build.run())] if self.build else [embedding]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._queries.shutdown(cancel_futures=True)
            self._texts.shutdown(cancel_futures=True)
            await self.extraction.close()
            for store in (*self._retired, *([self.build.new.store] if self.build else []), self.store):
                await store.close()

    def _build(self, successor: Successor) -> Build:
        new = Index(successor.settings, successor.store, successor.embedder, self.metrics, in_use=False)

        async def take_over() -> None:
            await successor.switch()
            self._retired.append(self.index.store)  # a search may be under way in it
            self.index, self.build = new, None
            new.worker.in_use = True
            if self._tasks:
                self._tasks[0].cancel()
                self._tasks.append(asyncio.create_task(new.worker.run()))

        return Build(self.index, new, self._writes, take_over, self.metrics)

    async def put(self, tenant: str, documents: list[NewDocument]) -> list[Outcome]:
        """Index a batch: findable by BM25 and on disk when this returns, embedded soon after.

        Raises `InvalidDocument`, with nothing written.
        """
        async with self._writes:
            outcomes = await self.ingest.ingest(tenant, documents)
            if self.build:
                await self.build.put(tenant, documents)
        for outcome in outcomes:
            self.metrics.ingested.labels(outcome.status).inc()
        await self.worker.wake()
        return outcomes

    async def delete(self, tenant: str, document_id: str) -> int:
        """Remove a document; returns how many chunks it had."""
        async with self._writes:
            chunks = await self.ingest.delete(tenant, document_id)
            if self.build:
                await self.build.delete(tenant, document_id)
        return chunks

    async def embed_query(self, embedder: Embedder, query: str) -> Floats:
        """The vector of a search."""
        return await asyncio.get_running_loop().run_in_executor(self._queries, embedder.embed, query)

    async def embed_texts(self, texts: list[str]) -> list[Floats]:
        """A client's texts, behind the searches; shape (len(texts), dimensions)."""
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(self._texts, self.embedder.embed, text) for text in texts))

    async def document(self, tenant: str, document_id: str) -> DocumentRow:
        """The tenant's own document, else the shared one of that id. Raises `ApiError` (404)."""
        for owner in readable(tenant):
            if row := await self.store.document(owner, document_id):
                return row
        raise not_found(document_id)


def readable(tenant: str) -> tuple[str, ...]:
    """Whose documents a tenant can read, its own first."""
    return tuple(dict.fromkeys((tenant, SHARED_TENANT)))


def not_found(document_id: str) -> ApiError:
    """The same answer for what is not there and for what is somebody else's."""
    return ApiError(404, "document_not_found", f"there is no document {document_id!r}", param="document_id")
