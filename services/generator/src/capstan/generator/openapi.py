"""The API's description, committed as openapi.json beside pyproject.toml."""

import json

from pydantic import HttpUrl, SecretStr

from capstan.generator.app import create_generator
from capstan.generator.settings import GeneratorSettings


def description() -> str:
    """OpenAPI 3.1 as JSON text."""
    nowhere = HttpUrl("http://nowhere")
    settings = GeneratorSettings(
        identity_secret=SecretStr("x" * 32), gateway_url=nowhere, retriever_url=nowhere, reranker_url=nowhere, llm="x"
    )
    return json.dumps(create_generator(settings).openapi(), indent=1, sort_keys=True)
