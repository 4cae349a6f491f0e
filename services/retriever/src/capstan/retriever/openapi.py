"""The API's description, committed as openapi.json beside pyproject.toml."""

import json
from typing import Any, cast

from capstan.retriever.app import create
from capstan.retriever.embedder import Embedder
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import VectorStore


class _Nothing:
    """Stands in for the embedder and the store, which describing routes does not touch."""

    def count_words(self, words: list[str]) -> list[int]:
        raise NotImplementedError


def description() -> str:
    """OpenAPI 3.1 as JSON text."""
    settings = RetrieverSettings.model_validate({"identity_secret": "x" * 32})
    nothing: Any = _Nothing()
    app = create(settings, cast(VectorStore, nothing), cast(Embedder, nothing))
    return json.dumps(app.openapi(), indent=1, sort_keys=True)
