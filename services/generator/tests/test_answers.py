"""The generator over HTTP, in front of small stand-ins for retriever, reranker and gateway."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.generator.app import create_generator
from capstan.generator.settings import GeneratorSettings

TEXTS = ["Use git add to stage a file.", "The pipe system call creates a data channel."]
WRITES = ["Use git add", " to stage a file [1", "]. Bananas are yellow sweet fruit [2]."]


class Neighbours:
    """What the services around the generator do in a test, and what they were asked."""

    def __init__(self) -> None:
        self.results = [
            {
                "id": f"c{n}",
                "document_id": f"d{n}",
                "title": f"T{n}",
                "heading": ["H"],
                "text": text,
                "url": f"u{n}",
                "source": "s",
                "license": "MIT",
                "score": 1.0,
            }
            for n, text in enumerate(TEXTS)
        ]
        self.scores = [0.2, 0.9]
        self.rerank_status = 200
        self.search_status = 200
        self.llm_status = 200
        self.writes = WRITES
        self.end = ["data: [DONE]\n\n"]
        self.pause = False
        self.tenants: list[str] = []
        self.llm_bodies: list[dict[str, Any]] = []
        self.llm_closed = asyncio.Event()

    def app(self, secret: str) -> FastAPI:
        app = FastAPI()
        signer = Signer(secret)

        def note(request: Request) -> None:
            identity = signer.verify(request.headers[IDENTITY_HEADER])
            self.tenants.append(f"{identity.tenant}/{identity.service}")

        @app.post("/v1/search")
        async def search(request: Request) -> JSONResponse:
            note(request)
            return JSONResponse({"results": self.results}, self.search_status)

        @app.post("/v1/rerank")
        async def rerank(request: Request) -> JSONResponse:
            note(request)
            ranked = sorted(enumerate(self.scores), key=lambda pair: -pair[1])
            results = [{"index": i, "relevance_score": score} for i, score in ranked]
            return JSONResponse({"results": results}, self.rerank_status)

        @app.post("/v1/chat/completions", response_model=None)
        async def chat(request: Request) -> JSONResponse | StreamingResponse:
            note(request)
            self.llm_bodies.append(await request.json())
            if self.llm_status != 200:
                return JSONResponse({"error": {"message": "the queue is full"}}, self.llm_status)
            return StreamingResponse(self._stream(), media_type="text/event-stream")

        return app

    async def _stream(self) -> Any:
        for text in self.writes:
            yield _event({"choices": [{"index": 0, "delta": {"content": text}}]})
        try:
            if self.pause:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.llm_closed.set()
            raise
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        yield _event({"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 9}})
        for text in self.end:
            yield text


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


class Setup:
    def __init__(self, client: httpx2.AsyncClient, neighbours: Neighbours) -> None:
        self.client = client
        self.neighbours = neighbours

    async def ask(self, question: str = "How do I stage a file?", **extra: Any) -> httpx2.Response:
        body = {"model": "docs", "messages": [{"role": "user", "content": question}], **extra}
        return await self.client.post("/v1/chat/completions", json=body)


@pytest.fixture
async def generator(serve: Any, identity_secret: str) -> Any:
    neighbours = Neighbours()
    url = await serve(neighbours.app(identity_secret))
    clients = []

    async def start(**settings: Any) -> Setup:
        values = {"gateway_url": url, "retriever_url": url, "reranker_url": url, "llm": "small", **settings}
        app = create_generator(GeneratorSettings(identity_secret=identity_secret, **values))
        token = Signer(identity_secret).sign(Identity("acme", "gateway"))
        base_url = await serve(app)
        clients.append(
            httpx2.AsyncClient(base_url=base_url, trust_env=False, timeout=10, headers={IDENTITY_HEADER: token})
        )
        return Setup(clients[-1], neighbours)

    yield start
    for client in clients:
        await client.aclose()


def _chunks(response: httpx2.Response) -> list[Any]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_an_answer_has_checked_citations(generator: Any) -> None:
    setup = await generator()
    body = (await setup.ask()).json()
    message = body["choices"][0]["message"]
    # The reranker puts "pipe" first, so the model's [1] is wrong for this sentence and is corrected to [2].
    assert message["content"] == "Use git add to stage a file. [2] Bananas are yellow sweet fruit."
    citation = message["annotations"][0]["url_citation"]
    assert (citation["url"], citation["quote"], citation["document_id"]) == ("u0", TEXTS[0], "d0")
    assert message["content"][citation["start_index"] : citation["end_index"]] == "[2]"
    assert body["usage"] == {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}
    assert body["choices"][0]["finish_reason"] == "length"
    assert (body["capstan"]["mode"], body["capstan"]["reranked"], body["capstan"]["grounded"]) == (
        "generated",
        True,
        0.5,
    )


async def test_stream_and_whole_answer_are_the_same(generator: Any) -> None:
    setup = await generator()
    whole = (await setup.ask()).json()["choices"][0]["message"]
    chunks = _chunks(await setup.ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["usage"]["total_tokens"] == 59
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-2])
    assert text == whole["content"]
    assert chunks[-3]["choices"][0]["delta"]["annotations"] == whole["annotations"]
    assert chunks[-3]["choices"][0]["finish_reason"] == "length"


async def test_every_inner_call_carries_the_users_tenant(generator: Any) -> None:
    setup = await generator()
    await setup.ask()
    assert setup.neighbours.tenants == ["acme/generator"] * 3


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
    assert f"“{TEXTS[0]}” [2]" in message["content"]
    for annotation in message["annotations"]:
        citation = annotation["url_citation"]
        assert message["content"][citation["start_index"] : citation["end_index"]] == f"[{citation['id']}]"


async def test_options_that_the_model_refuses_are_the_clients_mistake(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.llm_status = 400
    assert (await setup.ask(temperature=9)).status_code == 400
    assert _chunks(await setup.ask(temperature=9, stream=True))[-1]["error"]["message"] == "the queue is full"


async def test_a_model_that_dies_midway_ends_in_an_error_event(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.end = [_event({"error": {"message": "the worker died"}})]
    chunks = _chunks(await setup.ask(stream=True))
    assert "[DONE]" not in chunks
    assert chunks[-1]["error"]["code"] == "upstream_died"
    assert (await setup.ask()).status_code == 502


async def test_a_stream_without_its_end_is_an_error_too(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.end = []
    assert "error" in _chunks(await setup.ask(stream=True))[-1]


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
    message = (await setup.ask()).json()["choices"][0]["message"]
    assert message["content"] == f"Bananas are yellow and ripen.\n\nThe documents say: “{TEXTS[1]}” [1]"
    assert len(message["annotations"]) == 1


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
    assert "How do I stage a file?\nAnd undo it?" in setup.neighbours.llm_bodies[0]["messages"][1]["content"]
