import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest

from capstan.reranker.scorers import Scorer
from capstan.reranker.scores import Scores

PASSAGES = ["apples and pears", "red apples", "stones"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
async def test_passages_come_back_best_first_with_their_place_in_the_request(
    client: httpx2.AsyncClient, path: str
) -> None:
    body = (await client.post(path, json={"query": "red apples", "documents": PASSAGES})).json()
    assert [(r["index"], r["relevance_score"]) for r in body["results"]] == [(1, 1.0), (0, 0.5), (2, 0.0)]
    assert body["id"].startswith("rerank-")
    assert body["model"] == "hf:BAAI/bge-reranker-base"
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert "document" not in body["results"][0]


async def test_top_n_and_return_documents(client: httpx2.AsyncClient) -> None:
    asked = {"query": "red apples", "documents": PASSAGES, "top_n": 1, "return_documents": True}
    results = (await client.post("/v1/rerank", json=asked)).json()["results"]
    assert results == [{"index": 1, "relevance_score": 1.0, "document": {"text": "red apples"}}]


async def test_documents_may_be_objects_and_other_apis_fields_are_ignored(client: httpx2.AsyncClient) -> None:
    asked = {"query": "red apples", "documents": [{"text": p, "title": "x"} for p in PASSAGES], "max_tokens_per_doc": 9}
    results = (await client.post("/v2/rerank", json=asked)).json()["results"]
    assert [r["index"] for r in results] == [1, 0, 2]


async def test_passages_of_one_score_keep_their_order(client: httpx2.AsyncClient) -> None:
    asked = {"query": "apples", "documents": ["apples a", "apples b", "apples c"]}
    assert [r["index"] for r in (await client.post("/v1/rerank", json=asked)).json()["results"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("changed", "status", "named"),
    [
        ({"query": " "}, 400, "query is empty"),
        ({"query": "x" * 4001}, 400, "at most 4000"),
        ({"documents": []}, 400, "documents is empty"),
        ({"documents": ["x"] * 201}, 400, "201 documents; send at most 200"),
        ({"documents": ["fine", " "]}, 400, "documents[1] is empty"),
        ({"documents": ["fine", "x" * 20_001]}, 400, "documents[1] has 20001 characters"),
        ({"documents": [{"title": "no text"}]}, 400, "text"),
        ({"documents": "text"}, 400, "documents"),
        ({"top_n": 0}, 400, "top_n"),
        ({"model": "other"}, 404, "model 'other' is not loaded"),
    ],
)
async def test_a_bad_request_gets_one_error_that_names_what_to_change(
    client: httpx2.AsyncClient, changed: dict[str, Any], status: int, named: str
) -> None:
    response = await client.post("/v1/rerank", json={"query": "x", "documents": ["y"], **changed})
    assert response.status_code == status
    assert named in response.json()["error"]["message"]


async def test_without_an_identity_nothing_is_scored(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        "/v1/rerank", json={"query": "x", "documents": ["y"]}, headers={"x-capstan-identity": ""}
    )
    assert response.status_code == 401


async def test_models_says_how_the_scores_are_made(client: httpx2.AsyncClient) -> None:
    model = (await client.get("/v1/models")).json()["data"][0]
    assert (model["id"], model["scorer"], model["scale"]) == ("hf:BAAI/bge-reranker-base", "overlap", "0..1")


async def test_one_request_too_many_is_refused_at_once(client_of: Callable[[Scorer], httpx2.AsyncClient]) -> None:
    release, busy = threading.Event(), threading.Semaphore(0)

    class Slow:
        name = method = scale = runtime = "slow"

        def score(self, query: str, passages: Sequence[str]) -> Scores:
            busy.release()
            release.wait(60)
            return Scores([0.0] * len(passages), 0)

    client = client_of(Slow())
    asked = {"query": "x", "documents": ["y"]}
    running = [asyncio.create_task(client.post("/v1/rerank", json=asked)) for _ in range(16)]
    while "capstan_reranker_waiting 16.0" not in (await client.get("/metrics")).text:
        await asyncio.sleep(0)
    refused = await client.post("/v1/rerank", json=asked)
    release.set()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert [r.status_code for r in await asyncio.gather(*running)] == [200] * 16
    assert "capstan_reranker_refused_total 1.0" in (await client.get("/metrics")).text
