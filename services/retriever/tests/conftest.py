import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.retriever.app import create
from capstan.retriever.edge_store import EdgeStore
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.state import Retriever
from capstan.retriever.store import Floats

SECRET = "a test secret of more than thirty-two characters"


class WordEmbedder:
    """Bags of hashed words: texts that share words are near, and it costs nothing. `poison` fails."""

    dimensions = 32
    runtime = "test"

    def __init__(self) -> None:
        self.poison: str | None = None
        self.texts: list[str] = []

    def count_words(self, words: list[str]) -> list[int]:
        return [1 + len(word) // 6 for word in words]

    def embed(self, text: str) -> Floats:
        if self.poison and self.poison in text:
            raise RuntimeError("poison")
        self.texts.append(text)
        vector = np.full(self.dimensions, 1e-3, dtype=np.float32)
        for word in text.lower().split():
            vector[hashlib.sha256(word.encode()).digest()[0] % self.dimensions] += 1
        return vector / np.linalg.norm(vector)


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def settings(tmp_path: Path) -> RetrieverSettings:
    return RetrieverSettings.model_validate(
        {
            "identity_secret": SECRET,
            "data_dir": tmp_path,
            "chunk_tokens": 60,
            "small_tokens": 10,
            "embed_threads": 1,
        }
    )


@pytest.fixture
async def app(settings: RetrieverSettings, embedder: WordEmbedder) -> AsyncIterator[FastAPI]:
    """The application with its worker standing still: tests call `worker.step()`."""
    store = EdgeStore(settings.data_dir / "chunks", embedder.dimensions)
    app = create(settings, store, embedder)
    yield app
    await app.state.retriever.extraction.close()
    await store.close()


@pytest.fixture
def retriever(app: FastAPI) -> Retriever:
    retriever: Retriever = app.state.retriever
    return retriever


@pytest.fixture
def as_tenant(app: FastAPI) -> Callable[[str | None], httpx2.AsyncClient]:
    """A client whose requests carry the signed identity of a tenant (None: no identity)."""

    def client(tenant: str | None) -> httpx2.AsyncClient:
        headers = {}
        if tenant is not None:
            headers[IDENTITY_HEADER] = Signer(SECRET).sign(Identity(tenant, "test"))
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://retriever", headers=headers)

    return client


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    """A document of one section."""

    def make(id: str, text: str, **fields: Any) -> dict[str, Any]:
        return {"id": id, "title": f"About {id}", "sections": [{"heading": ["Usage"], "text": text}], **fields}

    return make
