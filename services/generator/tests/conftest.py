"""The generator in front of small stand-ins for retriever, reranker and gateway."""

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client.parser import text_string_to_metric_families

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.generator.app import create_generator
from capstan.generator.settings import GeneratorSettings

TEXTS = ["Use git add to stage a file.", "The pipe system call creates a data channel."]
WRITES = ["Use git add", " to stage a file [1", "]. Bananas are yellow sweet fruit [2]."]


def bag_of_words(text: str) -> list[float]:
    """An embedding for tests: which words a text has, so that the same words mean the same."""
    vector = [0.0] * 512
    for word in re.findall(r"\w+", text.lower()):
        vector[zlib.crc32(word.encode()) % 512] = 1.0
    return vector


def event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def result(n: int, text: str, **fields: Any) -> dict[str, Any]:
    """A search result: chunk `c<n>`, the only one of document `d<n>`."""
    common = {"title": f"T{n}", "heading": ["H"], "url": f"u{n}", "source": "s", "license": "MIT", "score": 1 / (n + 1)}
    return {"id": f"c{n}", "document_id": f"d{n}", "chunk_index": 0, "text": text, **common, **fields}


class Neighbours:
    """What the services around the generator do in a test, and what they were asked."""

    def __init__(self) -> None:
        self.results = [result(n, text) for n, text in enumerate(TEXTS)]
        self.results_by_mode: dict[str, list[dict[str, Any]]] = {}
        """In place of `results`, for the modes that it has."""
        self.stages: dict[str, Any] | None = None
        self.documents: dict[str, list[str]] = {}
        """Texts of a document's chunks; chunk i of document d is `d-i`."""
        self.scores = [0.2, 0.9]
        self.rerank_status = 200
        self.search_status = 200
        self.llm_status = 200
        self.embeddings_status = 200
        self.writes = WRITES
        self.condensed: str | None = None
        """What the model answers to a call that is not streamed text of `writes`: the first of two calls."""
        self.end = ["data: [DONE]\n\n"]
        self.pause = False
        self.tenants: list[str] = []
        self.searches: list[dict[str, Any]] = []
        self.reranked: list[dict[str, Any]] = []
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
            body = await request.json()
            self.searches.append(body)
            if self.search_status != 200:
                return JSONResponse({"error": {"message": "limit is 200; ask for at most 100"}}, self.search_status)
            found = self.results_by_mode.get(body["mode"], self.results)
            return JSONResponse({"results": found, "mode": body["mode"], "stages": self.stages})

        @app.get("/v1/chunks")
        async def chunks(request: Request) -> JSONResponse:
            note(request)
            document, first = request.query_params["document_id"], int(request.query_params["from"])
            texts = self.documents.get(document)
            if texts is None:
                return JSONResponse({"error": {"message": "there is no document"}}, 404)
            data = [
                {"id": f"{document}-{i}", "chunk_index": i, "heading": ["H"], "text": text}
                for i, text in enumerate(texts)
            ]
            limit = int(request.query_params["limit"])
            return JSONResponse({"document": {"id": document}, "data": data[first : first + limit], "next": None})

        @app.post("/v1/embeddings")
        async def embeddings(request: Request) -> JSONResponse:
            note(request)
            texts = (await request.json())["input"]
            data = [{"index": i, "embedding": bag_of_words(text)} for i, text in enumerate(texts)]
            return JSONResponse({"data": data}, self.embeddings_status)

        @app.post("/v1/rerank")
        async def rerank(request: Request) -> JSONResponse:
            note(request)
            self.reranked.append(await request.json())
            scores = self.scores[: len(self.results)] + [0.1] * (len(self.results) - len(self.scores))
            ranked = sorted(enumerate(scores), key=lambda pair: -pair[1])
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

    async def _stream(self) -> AsyncIterator[str]:
        writes = self.writes
        if self.condensed is not None and len(self.llm_bodies) == 1:
            writes = [self.condensed]
        for text in writes:
            yield event({"choices": [{"index": 0, "delta": {"content": text}}]})
        try:
            if self.pause:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.llm_closed.set()
            raise
        yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        yield event({"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 9}})
        for text in self.end:
            yield text


class Setup:
    """A running generator, and what surrounds it."""

    def __init__(self, client: httpx2.AsyncClient, neighbours: Neighbours) -> None:
        self.client = client
        self.neighbours = neighbours

    async def ask(self, question: str = "How do I stage a file?", **extra: Any) -> httpx2.Response:
        body = {"model": "docs", "messages": [{"role": "user", "content": question}], **extra}
        return await self.client.post("/v1/chat/completions", json=body)


def chunks(response: httpx2.Response) -> list[Any]:
    """The events of a stream, parsed."""
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.fixture
def metric() -> Callable[..., Awaitable[float | None]]:
    """`await metric(setup, "answers_total", mode="abstained")`: what a scrape of the generator shows, or None."""

    async def value(setup: Setup, name: str, **labels: str) -> float | None:
        text = (await setup.client.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = [s.value for s in samples if (s.name, s.labels) == (f"capstan_generator_{name}", labels)]
        return found[0] if found else None

    return value


@pytest.fixture
def chunks_of() -> Callable[[httpx2.Response], list[Any]]:
    return chunks


@pytest.fixture
def new_result() -> Callable[..., dict[str, Any]]:
    return result


@pytest.fixture
async def generator(serve: Any, identity_secret: str, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Setup]]]:
    """`setup = await generator(grounding="strict")`: a generator with these settings."""
    neighbours = Neighbours()
    url = await serve(neighbours.app(identity_secret))
    clients = []

    async def start(**settings: Any) -> Setup:
        urls = {"gateway_url": url, "retriever_url": url, "reranker_url": url}
        values = {**urls, "llm": "small", "data_dir": tmp_path / "records", **settings}
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
