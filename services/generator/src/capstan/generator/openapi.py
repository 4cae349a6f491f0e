"""The API's description, committed as openapi.json beside pyproject.toml."""

import json

from capstan.generator.app import create_generator
from capstan.generator.settings import GeneratorSettings


def description() -> str:
    """OpenAPI 3.1 as JSON text."""
    urls = {f"{name}_url": "http://nowhere" for name in ("gateway", "retriever", "reranker")}
    settings = GeneratorSettings.model_validate({"identity_secret": "x" * 32, "llm": "unnamed", **urls})
    return json.dumps(create_generator(settings).openapi(), indent=1, sort_keys=True)
