import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from capstan.retriever.app import create
from capstan.retriever.server_store import ServerStore
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.state import Retriever

Client = Callable[[str | None], httpx2.AsyncClient]
Document = Callable[..., dict[str, Any]]


async def put(client: httpx2.AsyncClient, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    response = await client.post("/v1/documents", json={"documents": list(documents)})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


async def search(client: httpx2.AsyncClient, query: str, **fields: Any) -> dict[str, Any]:
    response = await client.post("/v1/search", json={"query": query, **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_a_document_is_found_by_bm25_at_once_and_by_its_meaning_when_embedded(
    as_tenant: Client, document: Document, retriever: Retriever
) -> None:
    a = as_tenant("a")
    fields = {"source": "man", "license": "MIT", "url": "man:/slots"}
    assert await put(a, document("pg/slots", "Replication slots keep the log.", **fields)) == [
        {"id": "pg/slots", "status": "created", "chunks": 1}
    ]
    body = await search(a, "replication slot")
    assert (body["mode"], body["dense_coverage"]) == ("hybrid", 0.0)
    result = body["results"][0]
    assert {k: result[k] for k in ("document_id", "title", "heading", "text", "tenant", "chunk_index")} == {
        "document_id": "pg/slots",
        "title": "About pg/slots",
        "heading": ["Usage"],
        "text": "Replication slots keep the log.",
        "tenant": "a",
        "chunk_index": 0,
    }
    assert {k: result[k] for k in fields} == fields
    assert (await search(a, "replication", mode="dense"))["results"] == []
    await retriever.worker.step()
    body = await search(a, "replication", mode="dense")
    assert body["dense_coverage"] == 1.0
    assert body["results"][0]["document_id"] == "pg/slots"
    assert set(body["took_ms"]) == {"embed", "search", "total"}


async def test_title_and_headings_are_searched_too(as_tenant: Client, document: Document) -> None:
    a = as_tenant("a")
    await put(a, document("zebra", "It has stripes."))
    for query in ("zebra", "usage"):
        assert [r["text"] for r in (await search(a, query, mode="bm25"))["results"]] == ["It has stripes."]


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
async def test_one_tenant_never_sees_anothers_chunks(
    as_tenant: Client, document: Document, retriever: Retriever, mode: str
) -> None:
    a, b, shared = as_tenant("a"), as_tenant("b"), as_tenant("shared")
    await put(a, document("mine", "secret plans"))
    await put(shared, document("public", "public plans"))
    await retriever.worker.step()
    assert {r["document_id"] for r in (await search(a, "plans", mode=mode))["results"]} == {"mine", "public"}
    assert {r["document_id"] for r in (await search(b, "plans", mode=mode))["results"]} == {"public"}
    assert {r["document_id"] for r in (await search(shared, "plans", mode=mode))["results"]} == {"public"}


async def test_shared_documents_can_be_read_by_all_and_deleted_by_none_but_their_owner(
    as_tenant: Client, document: Document
) -> None:
    a, shared = as_tenant("a"), as_tenant("shared")
    await put(shared, document("public", "public plans"))
    assert (await a.get("/v1/documents/public")).json()["tenant"] == "shared"
    assert (await a.delete("/v1/documents/public")).status_code == 404
    assert (await shared.delete("/v1/documents/public")).json() == {"id": "public", "deleted": True, "chunks": 1}


async def test_a_tenant_in_the_body_is_a_mistake_and_not_a_way_in(as_tenant: Client, document: Document) -> None:
    response = await as_tenant("a").post("/v1/documents", json={"documents": [document("x", "text", tenant="b")]})
    assert response.status_code == 400
    assert "tenant" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"query": " "}, "query is empty"),
        ({"query": "x" * 4001}, "4001 characters; send at most 4000"),
        ({"query": "x", "mode": "fuzzy"}, "'bm25', 'dense' or 'hybrid'"),
        ({"query": "x", "limit": 0}, "limit"),
        ({"query": "x", "limit": 1000}, "at most 100"),
        ({"query": "x", "fusion": {"rrf_k": 0}}, "rrf_k"),
        ({"query": "x", "modes": "bm25"}, "modes"),
        ({"query": "x", "exclude": ["d"] * 101}, "exclude"),
        ({"query": "x", "per_document": 0}, "per_document"),
        ({}, "query"),
    ],
)
async def test_a_bad_search_gets_one_error_that_names_what_to_change(
    as_tenant: Client, body: dict[str, Any], named: str
) -> None:
    response = await as_tenant("a").post("/v1/search", json=body)
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]


async def test_a_bad_batch_is_refused_whole(as_tenant: Client, document: Document) -> None:
    a = as_tenant("a")
    batches = {
        "'x' is 2 times": [document("x", "one"), document("x", "two")],
        "'y' has no text": [document("x", "one"), document("y", "  ")],
        "at most 256": [document(str(n), "text") for n in range(257)],
        "documents": [],
    }
    for named, batch in batches.items():
        response = await a.post("/v1/documents", json={"documents": batch})
        assert response.status_code == 400
        assert named in response.json()["error"]["message"]
    assert (await a.get("/v1/index")).json()["documents"] == 0


async def test_a_body_past_the_limit_is_refused(as_tenant: Client, document: Document) -> None:
    response = await as_tenant("a").post("/v1/documents", json={"documents": [document("x", "y" * 33 * 1024 * 1024)]})
    assert response.status_code == 413


async def test_ids_with_slashes_pages_and_deletion(as_tenant: Client, document: Document) -> None:
    a = as_tenant("a")
    await put(a, *(document(f"pg/{n}?", "text") for n in range(5)))
    first = (await a.get("/v1/documents", params={"limit": 3})).json()
    rest = (await a.get("/v1/documents", params={"limit": 3, "cursor": first["next"]})).json()
    assert sorted(d["id"] for d in first["data"] + rest["data"]) == [f"pg/{n}?" for n in range(5)]
    assert rest["next"] is None
    assert (await a.get("/v1/documents/pg/1%3F")).json()["id"] == "pg/1?"
    assert (await a.delete("/v1/documents/pg/1%3F")).json()["chunks"] == 1
    assert (await a.get("/v1/documents/pg/1%3F")).status_code == 404
    assert (await a.get("/v1/index")).json()["documents"] == 4


async def test_a_cursor_that_is_none_is_a_clear_error(as_tenant: Client) -> None:
    response = await as_tenant("a").get("/v1/documents", params={"cursor": "garbage"})
    assert response.status_code == 400
    assert "cursor" in response.json()["error"]["message"]


async def test_a_query_of_stop_words_finds_nothing_by_bm25_and_does_not_fail(
    as_tenant: Client, document: Document, retriever: Retriever
) -> None:
    a = as_tenant("a")
    await put(a, document("x", "text"))
    await retriever.worker.step()
    assert (await search(a, "the and of", mode="bm25"))["results"] == []
    assert len((await search(a, "the and of", mode="hybrid"))["results"]) == 1


async def test_the_same_document_from_two_requests_at_once_is_there_once(as_tenant: Client, document: Document) -> None:
    a = as_tenant("a")
    await asyncio.gather(*(put(a, document("x", f"version {n}")) for n in range(5)))
    assert (await a.get("/v1/index")).json()["chunks"] == 1


async def test_metrics_follow(as_tenant: Client, document: Document, retriever: Retriever) -> None:
    a = as_tenant("a")
    await put(a, document("x", "text"))
    await put(a, document("x", "text"))
    await search(a, "nothing like it", mode="bm25")
    text = (await a.get("/metrics")).text
    assert 'capstan_retriever_ingested_total{status="created"} 1.0' in text
    assert 'capstan_retriever_ingested_total{status="unchanged"} 1.0' in text
    assert "capstan_retriever_chunks_pending 1.0" in text
    assert 'capstan_retriever_empty_searches_total{mode="bm25"} 1.0' in text
    assert 'capstan_retriever_search_seconds_count{mode="bm25",phase="search"} 1.0' in text


async def test_a_qdrant_server_that_is_away_is_a_503_that_says_so(
    settings: RetrieverSettings, embedder: Any, document: Document, as_tenant: Client
) -> None:
    store = ServerStore.connect("http://127.0.0.1:9", None, "capstan-test", embedder.dimensions)
    transport = httpx2.ASGITransport(create(settings, store, embedder))
    headers = dict(as_tenant("a").headers)
    async with httpx2.AsyncClient(transport=transport, base_url="http://retriever", headers=headers) as client:
        for response in (
            await client.post("/v1/search", json={"query": "x"}),
            await client.post("/v1/documents", json={"documents": [document("x", "text")]}),
        ):
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "store_unavailable"
            assert response.headers["retry-after"] == "5"
    await store.close()


async def test_own_documents_can_be_listed_without_the_shared_ones(as_tenant: Client, document: Document) -> None:
    a, shared = as_tenant("a"), as_tenant("shared")
    await put(a, document("mine", "text"))
    await put(shared, document("everybody's", "text"))
    listed = {own: (await a.get("/v1/documents", params={"own": own})).json()["data"] for own in ("true", "false")}
    assert [row["id"] for row in listed["true"]] == ["mine"]
    assert {row["id"] for row in listed["false"]} == {"mine", "everybody's"}
