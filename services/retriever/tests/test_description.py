"""The service does what its OpenAPI description says, whatever it is sent: schemathesis against the running service."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi import checks

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.retriever.app import create
from capstan.retriever.edge_store import EdgeStore
from capstan.retriever.openapi import description
from capstan.retriever.settings import RetrieverSettings

SECRET = "a test secret of more than thirty-two characters"
SEARCH = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LEFT_OUT = [
    checks.positive_data_acceptance,  # repeated ids, blank texts, limits that are settings: beyond a schema
    checks.allow_header_conformance,  # the framework's 405 allows the methods of a path's first route only
]


class _Embedder:
    dimensions = 4
    runtime = "test"

    def count_words(self, words: list[str]) -> list[int]:
        return [1] * len(words)

    def embed(self, text: str) -> Any:
        return np.full(4, 0.5, dtype=np.float32)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory: Path = tmp_path_factory.mktemp("description")
    given = RetrieverSettings.model_validate({"identity_secret": SECRET, "data_dir": directory})
    app = create(given, EdgeStore(directory / "chunks", 4), _Embedder())
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


schema = schemathesis.openapi.from_dict(json.loads(description()))
schema.config.generation.update(deterministic=True)


@schema.parametrize()
@SEARCH
def test_any_request_gets_a_described_answer(service: str, case: schemathesis.Case) -> None:
    case.headers[IDENTITY_HEADER] = Signer(SECRET).sign(Identity("a", "test"))
    case.call_and_validate(base_url=service, excluded_checks=LEFT_OUT)
