"""What a search can be asked for beyond its query, and embeddings."""

import base64
from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import numpy as np
import openai
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from capstan.retriever.lexical import Lexicon
from capstan.retriever.state import Retriever
from capstan.retriever.store import Candidate, Fusion, SearchPlan

Client = Callable[[str | None], httpx2.AsyncClient]
Document = Callable[..., dict[str, Any]]


async def put(client: httpx2.AsyncClient, *documents: dict[str, Any]) -> None:
    (await client.post("/v1/documents", json={"documents": list(documents)})).raise_for_status()


async def search(client: httpx2.AsyncClient, query: str, **fields: Any) -> dict[str, Any]:
    response = await client.post("/v1/search", json={"query": query, **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.fixture
async def a(as_tenant: Client, document: Document, retriever: Retriever) -> httpx2.AsyncClient:
    """A tenant with one long document about needles and two short ones."""
    client = as_tenant("a")
    sections = [{"heading": [f"Part {n}"], "text": f"needle number {n} " + "hay " * (20 + n)} for n in range(6)]
    long = {"id": "long", "title": "needle", "sections": sections}
    await put(client, long, document("b", "a needle in hay"), document("c", "hay with one needle"))
    await retriever.worker.step()
    return client


def documents(results: list[dict[str, Any]]) -> list[str]:
    return [result["document_id"] for result in results]


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
async def test_excluded_documents_never_come_back(a: httpx2.AsyncClient, mode: str) -> None:
    assert "long" in documents((await search(a, "needle", mode=mode))["results"])
    body = await search(a, "needle", mode=mode, exclude=["long", "nowhere"], explain=True)
    assert set(documents(body["results"])) == {"b", "c"}
    if mode == "hybrid":
        assert set(documents(body["stages"]["bm25"] + body["stages"]["dense"])) == {"b", "c"}


async def test_an_explained_search_shows_the_lists_that_were_fused(a: httpx2.AsyncClient) -> None:
    plain = await search(a, "needle number 3", limit=5)
    assert plain["stages"] is None
    body = await search(a, "needle number 3", limit=5, explain=True)
    assert body["results"] == plain["results"]
    for mode in ("bm25", "dense"):
        alone = (await search(a, "needle number 3", limit=50, mode=mode))["results"]
        assert body["stages"][mode] == alone[:5]
    ranks = [{r["id"]: rank for rank, r in enumerate(body["stages"][mode], 1)} for mode in ("bm25", "dense")]
    in_both = [r for r in body["results"] if all(r["id"] in rank for rank in ranks)]
    assert in_both
    for result in in_both:
        assert result["score"] == pytest.approx(sum(1 / (60 + rank[result["id"]]) for rank in ranks))


async def test_stages_are_as_long_as_the_candidates_and_no_longer_than_the_answer(a: httpx2.AsyncClient) -> None:
    for limit, candidates, length in ((5, 3, 3), (2, 6, 2)):
        body = await search(a, "needle", limit=limit, explain=True, fusion={"candidates": candidates})
        assert [len(body["stages"][mode]) for mode in ("bm25", "dense")] == [length, length]


async def test_a_single_list_has_no_stages(a: httpx2.AsyncClient) -> None:
    assert (await search(a, "needle", mode="bm25", explain=True))["stages"] is None


async def test_an_explained_query_of_stop_words_has_an_empty_bm25_list(a: httpx2.AsyncClient) -> None:
    stages = (await search(a, "the and of", explain=True))["stages"]
    assert (len(stages["bm25"]), len(stages["dense"])) == (0, 8)


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
async def test_a_long_document_does_not_fill_the_list(a: httpx2.AsyncClient, mode: str) -> None:
    everything = (await search(a, "needle", mode=mode, limit=20))["results"]
    best = list(dict.fromkeys(documents(everything)))
    some = await search(a, "needle", mode=mode, limit=3, per_document=1)
    assert documents(some["results"]) == best
    first_of_each = [next(r for r in everything if r["document_id"] == document) for document in best]
    assert some["results"] == first_of_each
    two = documents((await search(a, "needle", mode=mode, limit=20, per_document=2))["results"])
    assert {document: two.count(document) for document in best} == {"long": 2, "b": 1, "c": 1}
    assert len((await search(a, "needle", mode=mode, limit=2, per_document=1))["results"]) == 2


async def test_own_and_shared_documents_of_one_id_count_as_two(
    a: httpx2.AsyncClient, as_tenant: Client, document: Document
) -> None:
    await put(as_tenant("shared"), document("b", "a needle in hay"))
    found = (await search(a, "needle", mode="bm25", per_document=1))["results"]
    assert sorted((r["document_id"], r["tenant"]) for r in found) == [
        ("b", "a"), ("b", "shared"), ("c", "a"), ("long", "a")
    ]  # fmt: skip


async def test_chunks_are_paged_in_the_documents_order(a: httpx2.AsyncClient) -> None:
    first = (await a.get("/v1/chunks", params={"document_id": "long", "limit": 4})).json()
    assert first["document"] == (await a.get("/v1/documents/long")).json()
    assert first["next"] == 4
    rest = (await a.get("/v1/chunks", params={"document_id": "long", "from": first["next"], "limit": 4})).json()
    assert rest["next"] is None
    chunks = first["data"] + rest["data"]
    assert [(c["chunk_index"], c["heading"]) for c in chunks] == [(n, [f"Part {n}"]) for n in range(6)]
    found = {r["id"]: r["text"] for r in (await search(a, "needle", mode="bm25", exclude=["b", "c"]))["results"]}
    assert {c["id"]: c["text"] for c in chunks} == found


async def test_chunks_of_what_is_not_there_and_past_the_end(a: httpx2.AsyncClient) -> None:
    assert (await a.get("/v1/chunks", params={"document_id": "nowhere"})).status_code == 404
    assert (await a.get("/v1/chunks", params={"document_id": "b", "from": -1})).status_code == 400
    beyond = (await a.get("/v1/chunks", params={"document_id": "b", "from": 7})).json()
    assert (beyond["data"], beyond["next"]) == ([], None)


async def test_a_tenants_own_document_stands_before_the_shared_one(
    a: httpx2.AsyncClient, as_tenant: Client, document: Document
) -> None:
    await put(as_tenant("shared"), document("b", "the shared text"), document("d", "for all"))
    mine = (await a.get("/v1/chunks", params={"document_id": "b"})).json()
    assert [c["text"] for c in mine["data"]] == ["a needle in hay"]
    assert (await a.get("/v1/chunks", params={"document_id": "d"})).json()["document"]["tenant"] == "shared"


async def test_embeddings_are_the_embedders_vectors_of_length_1(a: httpx2.AsyncClient, retriever: Retriever) -> None:
    texts = ["a needle", "some hay"]
    response = await a.post("/v1/embeddings", json={"input": texts})
    body = response.json()
    assert (body["object"], body["model"]) == ("list", retriever.settings.model)
    assert [d["index"] for d in body["data"]] == [0, 1]
    for text, data in zip(texts, body["data"], strict=True):
        assert data["embedding"] == pytest.approx(retriever.embedder.embed(text).tolist())
        assert np.linalg.norm(data["embedding"]) == pytest.approx(1, abs=1e-5)
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] > 0
    one = (await a.post("/v1/embeddings", json={"input": texts[1], "encoding_format": "base64"})).json()
    decoded = np.frombuffer(base64.b64decode(one["data"][0]["embedding"]), dtype="<f4")
    assert decoded.tolist() == body["data"][1]["embedding"]


async def test_openais_client_reads_them(a: httpx2.AsyncClient, app: FastAPI, retriever: Retriever) -> None:
    """It asks for base64 by itself."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), headers=dict(a.headers))
    async with openai.AsyncOpenAI(base_url="http://retriever/v1", api_key="none", http_client=http) as client:
        answer = await client.embeddings.create(input=["a needle"], model=retriever.settings.model)
    assert answer.data[0].embedding == pytest.approx(retriever.embedder.embed("a needle").tolist())


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"input": []}, 400, "0 texts"),
        ({"input": ["x"] * 65}, 400, "65 texts; send 1 to 64"),
        ({"input": ["x", " "]}, 400, "empty text"),
        ({"input": ""}, 400, "empty text"),
        ({"input": [1, 2]}, 400, "input"),
        ({"input": "x", "model": "text-embedding-3-small"}, 404, "leave model out"),
        ({"input": "x", "dimensions": 8}, 400, "dimensions"),
        ({}, 400, "input"),
    ],
)
async def test_a_bad_request_for_embeddings_says_what_to_change(
    a: httpx2.AsyncClient, body: dict[str, Any], status: int, named: str
) -> None:
    response = await a.post("/v1/embeddings", json=body)
    assert response.status_code == status
    assert named in response.json()["error"]["message"]


@given(
    found=st.lists(st.tuples(st.integers(0, 3), st.floats(0.001, 1)), min_size=1, max_size=30),
    weight=st.floats(0, 1),
)
def test_siblings_add_to_each_other_and_to_nobody_else(found: list[tuple[int, float]], weight: float) -> None:
    fusion = Fusion(siblings=weight)
    plan = SearchPlan(("a",), 30, Lexicon().query("pipe"), np.ones(3, np.float32), None, fusion)
    candidates = [Candidate(str(i), score, ("a", str(document))) for i, (document, score) in enumerate(found)]
    chosen = {c.id: c.score for c in plan.chosen(candidates)}
    assert chosen.keys() == {c.id for c in candidates}
    for candidate in candidates:
        others = sorted(c.score for c in candidates if c.document == candidate.document and c is not candidate)
        gain = sum(score * weight ** (place + 1) for place, score in enumerate(reversed(others)))
        assert chosen[candidate.id] == pytest.approx(candidate.score + gain)


def test_a_document_found_in_two_places_passes_one_found_higher_in_one() -> None:
    found = [Candidate("1", 0.5, ("a", "x")), Candidate("2", 0.45, ("a", "y")), Candidate("3", 0.4, ("a", "y"))]
    query = Lexicon().query("pipe")
    for weight, best in ((0.0, "1"), (0.5, "2")):
        plan = SearchPlan(("a",), 3, query, np.ones(3, np.float32), None, Fusion(siblings=weight))
        assert plan.chosen(found)[0].id == best
