"""Each route of the API, as another tenant and as nobody; a new route without a case here fails."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from capstan.retriever.state import Retriever

Client = Callable[[str | None], httpx2.AsyncClient]
Document = Callable[..., dict[str, Any]]
SECRET_WORDS = "xylophone zeppelin"
OPEN = {"GET /healthz", "GET /readyz", "GET /metrics"}  # for the operator, no tenant's data


@dataclass(frozen=True)
class Case:
    """A request that reaches for tenant a's document; `status` is what tenant b gets, without a word of it."""

    path: str
    status: int
    json: Any = None
    params: dict[str, str] = field(default_factory=dict)
    data: Any = None
    files: Any = None


def document(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "title": "mine", "sections": [{"text": text}]}


CASES = {
    "POST /v1/documents": Case("/v1/documents", 200, {"documents": [document("mine", "harmless")]}),
    "POST /v1/files": Case("/v1/files", 200, data={"id": "mine"}, files={"file": ("a.txt", b"harmless text")}),
    "GET /v1/documents": Case("/v1/documents", 200),
    "GET /v1/documents/{document_id}": Case("/v1/documents/mine", 404),
    "DELETE /v1/documents/{document_id}": Case("/v1/documents/mine", 404),
    "GET /v1/chunks": Case("/v1/chunks", 404, params={"document_id": "mine"}),
    "POST /v1/search": Case("/v1/search", 200, {"query": SECRET_WORDS, "explain": True, "per_document": 1}),
    "POST /v1/embeddings": Case("/v1/embeddings", 200, {"input": "harmless"}),
    "GET /v1/index": Case("/v1/index", 200),
}


def routes(app: FastAPI) -> set[str]:
    paths = app.openapi()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} - OPEN


async def send(client: httpx2.AsyncClient, route: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    case = CASES[route]
    method = route.split()[0]
    return await client.request(
        method, case.path, json=case.json, params=case.params, data=case.data, files=case.files, headers=headers or {}
    )


async def everything(retriever: Retriever) -> list[Any]:
    """What is stored of tenant a: the document, its chunks and how many of them are embedded."""
    return [await retriever.store.document("a", "mine"), await retriever.store.chunks("a", "mine", 0, 10)]


@pytest.fixture(autouse=True)
async def secret(as_tenant: Client, retriever: Retriever) -> None:
    body = {"documents": [document("mine", SECRET_WORDS)]}
    (await as_tenant("a").post("/v1/documents", json=body)).raise_for_status()
    await retriever.worker.step()


def test_every_route_has_a_case(app: FastAPI) -> None:
    assert routes(app) == CASES.keys()


@pytest.mark.parametrize("route", CASES)
async def test_another_tenant_gets_nothing_and_changes_nothing(
    route: str, as_tenant: Client, retriever: Retriever
) -> None:
    before = await everything(retriever)
    chunk_id = before[1][0].id
    response = await send(as_tenant("b"), route)
    assert response.status_code == CASES[route].status, response.text
    asked = json.dumps(CASES[route].json)
    for word in (*SECRET_WORDS.split(), chunk_id):
        assert word not in response.text.replace(SECRET_WORDS if SECRET_WORDS in asked else "\0", "")
    if route.startswith("GET") and response.status_code == 200:
        assert response.json().get("data", []) == []
        assert response.json().get("chunks", 0) == 0
    assert await everything(retriever) == before


@pytest.mark.parametrize("route", CASES)
@pytest.mark.parametrize("header", [None, "", "not-a-token"])
async def test_nobody_gets_nothing_and_changes_nothing(
    route: str, header: str | None, as_tenant: Client, retriever: Retriever
) -> None:
    before = await everything(retriever)
    response = await send(as_tenant(None), route, {} if header is None else {"x-capstan-identity": header})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_identity"
    assert await everything(retriever) == before
    assert (await retriever.store.counts(None)).documents == 1


@pytest.mark.parametrize("route", CASES)
async def test_the_owner_gets_through(route: str, as_tenant: Client) -> None:
    """What the others are refused is there: without this, the tests above could pass on an empty index."""
    response = await send(as_tenant("a"), route)
    assert response.status_code == 200, response.text
    if route.startswith("GET"):
        assert response.json().get("data", [None]) != []
