"""The API's description, committed as openapi.json beside pyproject.toml."""

import json
from collections.abc import Sequence

from capstan.reranker.app import create
from capstan.reranker.scores import Scores
from capstan.reranker.settings import RerankerSettings


class _Undescribed:
    """A scorer that describing routes does not call."""

    name = method = scale = runtime = ""

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        raise NotImplementedError


def description() -> str:
    """OpenAPI 3.1 as JSON text."""
    app = create(RerankerSettings.model_validate({"identity_secret": "x" * 32}), _Undescribed())
    return json.dumps(app.openapi(), indent=1, sort_keys=True)
