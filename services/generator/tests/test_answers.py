"""The generator over HTTP, in front of small stand-ins for retriever, reranker and gateway (conftest.py)."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from capstan.common.identity import IDENTITY_HEADER

Chunks = Callable[[httpx2.Response], list[Any]]
ADD = "Use git add to stage a file."
PIPE = "The pipe system call creates a data channel."


async def test_an_answer_has_checked_citations(generator: Any) -> None:
    setup = await generator()
    body = (await setup.ask()).json()
    message = body["choices"][0]["message"]
    # The reranker puts "pipe" first, so the model's [1] is wrong for this sentence and is corrected to [2].
    assert message["content"] == "Use git add to stage a file. [2] Bananas are yellow sweet fruit."
    citation = message["annotations"][0]["url_citation"]
    assert (citation["url"], citation["quote"], citation["document_id"]) == ("u0", ADD, "d0")
    assert message["content"][citation["start_index"] : citation["end_index"]] == "[2]"
    assert body["usage"] == {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}
    assert body["choices"][0]["finish_reason"] == "length"
    assert (body["capstan"]["mode"], body["capstan"]["reranked"], body["capstan"]["grounded"]) == (
        "generated",
        True,
        0.5,
    )


async def test_stream_and_whole_answer_are_the_same(generator: Any, chunks_of: Chunks) -> None:
    setup = await generator()
    whole = (await setup.ask()).json()["choices"][0]["message"]
    chunks = chunks_of(await setup.ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["usage"]["total_tokens"] == 59
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-2])
    assert text == whole["content"]
    assert chunks[-3]["choices"][0]["delta"]["annotations"] == whole["annotations"]
    assert chunks[-3]["choices"][0]["finish_reason"] == "length"


async def test_every_inner_call_carries_the_users_tenant(generator: Any) -> None:
    setup = await generator()
    await setup.ask()
    assert set(setup.neighbours.tenants) == {"acme/generator"}
    assert len(setup.neighbours.tenants) > 4  # search, chunks, rerank, chat, embeddings


async def test_without_identity_nothing_is_answered(generator: Any) -> None:
    setup = await generator()
    del setup.client.headers[IDENTITY_HEADER]
    assert (await setup.ask()).status_code == 401
    assert setup.neighbours.tenants == []


async def test_a_dead_reranker_costs_the_order_and_is_said(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.rerank_status = 500
    details = (await setup.ask()).json()["capstan"]
    assert details["reranked"] is False
    assert "reranker" in details["rerank_note"]
    assert [source["document_id"] for source in details["sources"]] == ["d0", "d1"]


async def test_a_dead_retriever_is_a_clear_error(generator: Any) -> None:
    setup = await generator(retriever_url="http://127.0.0.1:9")
    response = await setup.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "retriever_unavailable")


async def test_an_overloaded_model_gives_an_extractive_answer_marked_as_such(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.llm_status = 503
    body = (await setup.ask()).json()
    message = body["choices"][0]["message"]
    assert body["capstan"]["mode"] == "extractive"
    assert body["capstan"]["note"] == "the queue is full"
    assert f"{ADD} [2]" in message["content"]
    assert message["content"].startswith("The language model is not available")
    for annotation in message["annotations"]:
        citation = annotation["url_citation"]
        assert message["content"][citation["start_index"] : citation["end_index"]] == f"[{citation['id']}]"


async def test_options_that_the_model_refuses_are_the_clients_mistake(generator: Any, chunks_of: Chunks) -> None:
    setup = await generator()
    setup.neighbours.llm_status = 400
    assert (await setup.ask(temperature=9)).status_code == 400
    assert chunks_of(await setup.ask(temperature=9, stream=True))[-1]["error"]["message"] == "the queue is full"


async def test_a_model_that_dies_midway_ends_in_an_error_event(generator: Any, chunks_of: Chunks) -> None:
    setup = await generator()
    setup.neighbours.end = ['data: {"error": {"message": "the worker died"}}\n\n']
    chunks = chunks_of(await setup.ask(stream=True))
    assert "[DONE]" not in chunks
    assert chunks[-1]["error"]["code"] == "upstream_died"
    assert (await setup.ask()).status_code == 502


async def test_a_stream_without_its_end_is_an_error_too(generator: Any, chunks_of: Chunks) -> None:
    setup = await generator()
    setup.neighbours.end = []
    assert "error" in chunks_of(await setup.ask(stream=True))[-1]


@pytest.mark.parametrize("thin", ["nothing found", "nothing relevant"])
async def test_thin_evidence_means_a_short_abstention(generator: Any, thin: str) -> None:
    setup = await generator(min_relevance=0.95)
    if thin == "nothing found":
        setup.neighbours.results = []
    body = (await setup.ask()).json()
    message = body["choices"][0]["message"]
    assert (body["capstan"]["mode"], message["annotations"]) == ("abstained", [])
    assert "could not find" in message["content"]
    assert setup.neighbours.llm_bodies == []


async def test_an_answer_without_any_support_ends_with_what_the_documents_say(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.writes = ["Bananas are yellow and ripen."]
    body = (await setup.ask()).json()
    message = body["choices"][0]["message"]
    assert message["content"] == f"Bananas are yellow and ripen.\n\nThe documents say:\n\n{ADD} [2]"
    assert [a["url_citation"]["quote"] for a in message["annotations"]] == [ADD]
    assert [s["supported"] for s in body["capstan"]["sentences"]] == [False, True]


async def test_a_strict_answer_ends_when_the_model_leaves_its_evidence(generator: Any) -> None:
    setup = await generator(grounding="strict")
    wandering = [
        "Bananas are yellow sweet fruit. ",
        "Apples are green round fruit. ",
        "Pears grow tall trees. ",
        "And ",
    ]
    setup.neighbours.writes = ["Use git add to stage a file. ", *wandering]
    setup.neighbours.pause = True  # without giving up, the test would wait for ever
    message = (await setup.ask()).json()["choices"][0]["message"]
    assert message["content"] == "Use git add to stage a file. [2]"


async def test_a_strict_answer_of_which_little_is_left_goes_on_with_an_extract(generator: Any, new_result: Any) -> None:
    setup = await generator(grounding="strict")
    text = "Staging adds a file. To stage a file and all of its parts, run git add with the name of the file."
    setup.neighbours.results = [new_result(0, text)]
    setup.neighbours.writes = ["Staging adds a file. Bananas are yellow sweet fruit. Apples are green round fruit."]
    body = (await setup.ask()).json()
    said, extract = body["choices"][0]["message"]["content"].split("\n\nThe documents say:\n\n")
    assert said == "Staging adds a file. [1]"
    assert extract == "To stage a file and all of its parts, run git add with the name of the file. [1]"
    assert (body["capstan"]["mode"], body["capstan"]["note"][:6]) == ("generated", "little")


async def test_an_abstention_names_the_closest_documents_without_citing_them(generator: Any) -> None:
    setup = await generator(min_relevance=0.95)
    setup.neighbours.results[1]["title"] = "Pipes [2]"
    body = (await setup.ask()).json()
    message = body["choices"][0]["message"]
    assert message["content"].endswith("The closest documents: Pipes (2); T0.")
    assert [s["document_id"] for s in body["capstan"]["suggestions"]] == ["d1", "d0"]
    assert message["annotations"] == []


async def test_a_question_that_nothing_answers_is_an_abstention(generator: Any) -> None:
    setup = await generator(grounding="strict")
    setup.neighbours.writes = ["Bananas are yellow and ripen."]
    body = (await setup.ask("Who won the football world cup?")).json()
    assert body["capstan"]["mode"] == "abstained"
    assert body["choices"][0]["message"]["content"].startswith("I could not find an answer")
    assert [s["supported"] for s in body["capstan"]["sentences"]] == [False]


async def test_without_embeddings_words_verify_and_it_is_said(generator: Any) -> None:
    setup = await generator()
    assert (await setup.ask()).json()["capstan"]["verified_by"] == "words and embeddings"
    setup.neighbours.embeddings_status = 503
    body = (await setup.ask()).json()
    assert body["capstan"]["verified_by"] == "words"
    assert (
        body["choices"][0]["message"]["content"] == "Use git add to stage a file. [2] Bananas are yellow sweet fruit."
    )
    assert "capstan_generator_unembedded_total 1.0" in (await setup.client.get("/metrics")).text


async def test_a_passage_is_widened_by_its_neighbours_and_a_quote_names_its_chunk(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.documents = {"d1": ["Pipes connect processes.", PIPE, "Closing an end of it closes the channel."]}
    setup.neighbours.results[1] |= {"id": "d1-1", "chunk_index": 1}
    setup.neighbours.writes = ["Closing an end of it closes the channel."]
    body = (await setup.ask()).json()
    source = body["capstan"]["sources"][0]
    assert (source["chunk_id"], source["chunks"]) == ("d1-1", ["d1-0", "d1-1", "d1-2"])
    assert body["choices"][0]["message"]["annotations"][0]["url_citation"]["chunk_id"] == "d1-2"
    assert source["text"] in setup.neighbours.llm_bodies[0]["messages"][1]["content"]
    narrow = (await setup.ask(capstan={"neighbours": 0})).json()
    assert narrow["capstan"]["sources"][0]["chunks"] == ["d1-1"]


async def test_a_client_that_leaves_stops_the_model(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.pause = True
    body = {"model": "docs", "messages": [{"role": "user", "content": "stage?"}], "stream": True}
    async with setup.client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if "stage" in line:  # the model has begun and is silent now
                break
    await asyncio.wait_for(setup.neighbours.llm_closed.wait(), 2)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, "empty"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "empty"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "4000 characters"),
        ({"messages": [{"role": "user", "content": "x"}], "model": "gpt"}, 404, "docs"),
        ({"messages": [{"role": "user", "content": "x"}], "n": 3}, 400, "'n'"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, 400, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x" * 3900}], "max_tokens": 1024}, 400, "no room"),
    ],
)
async def test_bad_requests(generator: Any, body: dict[str, Any], status: int, says: str) -> None:
    setup = await generator()
    response = await setup.client.post("/v1/chat/completions", json={"model": "docs", **body})
    assert response.status_code == status
    assert says in response.json()["error"]["message"]


async def test_the_clients_options_reach_the_model(generator: Any) -> None:
    setup = await generator()
    await setup.ask(temperature=0.7, max_tokens=5, seed=3)
    sent = setup.neighbours.llm_bodies[0]
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.7, 5, 3)


async def test_a_follow_up_carries_the_question_before_it(generator: Any) -> None:
    setup = await generator()
    history = [
        {"role": "user", "content": "How do I stage a file?"},
        {"role": "assistant", "content": "With git add."},
        {"role": "user", "content": [{"type": "text", "text": "And undo it?"}]},
    ]
    await setup.client.post("/v1/chat/completions", json={"model": "docs", "messages": history})
    assert setup.neighbours.searches[0]["query"] == "And undo it? (stage file)"
    assert "Question: And undo it? (stage file)" in setup.neighbours.llm_bodies[0]["messages"][1]["content"]
