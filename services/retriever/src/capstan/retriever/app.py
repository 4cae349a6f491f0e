"""The retriever's HTTP API."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from capstan.common.app import create_app
from capstan.common.errors import ApiError
from capstan.retriever.build import Successor
from capstan.retriever.documents import add_documents
from capstan.retriever.embedder import Embedder
from capstan.retriever.files import add_files
from capstan.retriever.schemas import errors
from capstan.retriever.search import add_search
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.state import Retriever
from capstan.retriever.store import StoreError, VectorStore


def create(
    settings: RetrieverSettings, store: VectorStore, embedder: Embedder, successor: Successor | None = None
) -> FastAPI:
    """The application over an open store and a loaded embedder; `successor` is built beside it and takes over."""
    retriever = Retriever(settings, store, embedder, successor)
    app = create_app(
        "retriever",
        settings=settings,
        ready=lambda: None,
        registry=retriever.metrics.registry,
        lifespan=retriever.running,
        max_body_bytes=settings.max_body_bytes,
    )
    app.state.retriever = retriever
    app.router.responses = errors(400, 401, 404, 413, 422, 503)
    app.add_exception_handler(StoreError, _store_is_away)
    add_documents(app, retriever)
    add_files(app, retriever)
    add_search(app, retriever)
    return app


async def _store_is_away(_: Request, error: Exception) -> JSONResponse:
    away = ApiError(503, "store_unavailable", str(error), retry_after=5)
    return JSONResponse(away.body(), status_code=503, headers=away.headers)
