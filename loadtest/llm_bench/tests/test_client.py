"""The client, against servers that behave well and badly."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Received
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loadtest.llm_bench.client import Client, Target, client
from loadtest.llm_bench.workload import Request

Serve = Callable[..., Awaitable[str]]
ASK = Request("hello", "be brief", 6)


def _event(**fields: Any) -> str:
    return f"data: {json.dumps(fields)}\n\n"


def _text(text: str) -> str:
    return _event(choices=[{"index": 0, "delta": {"content": text}}])


WHOLE = [_text(""), _text("a"), _text("bc"), _event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 6})]


class Fake:
    """A server that streams `events`, and remembers what it was asked."""

    def __init__(self, events: list[str], status: int = 200, body: Any = None) -> None:
        self.events, self.status, self.body = events, status, body
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.running = self.most = self.gone = 0
        self.hold = asyncio.Event()
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])])

    async def chat(self, request: Received) -> Response:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        if self.status != 200:
            return JSONResponse(self.body, self.status)
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for event in self.events:
                if event == "hold":
                    await self.hold.wait()
                else:
                    yield event
                    await asyncio.sleep(0)
        finally:
            self.running -= 1
            self.gone += self.hold.is_set() is False and "hold" in self.events


async def _one(serve: Serve, fake: Fake, **more: Any) -> Any:
    url = await serve(fake.app)
    async with client(Target(url, "m", "k", **more)) as sender:
        (sample,) = await sender.closed_loop([ASK], 1)
    return sample


async def test_it_asks_as_openai_wants_and_times_events_with_text(serve: Serve) -> None:
    fake = Fake([*WHOLE, "data: [DONE]\n\n"])
    sample = await _one(serve, fake)
    assert (sample.outcome, sample.prompt_tokens, sample.output_tokens) == ("completed", 7, 6)
    assert len(sample.token_times) == 2  # the first event has no text
    assert sample.due <= sample.sent <= sample.token_times[0] <= sample.ended
    assert fake.keys == ["Bearer k"]
    assert [m["role"] for m in fake.asked[0]["messages"]] == ["system", "user"]
    assert fake.asked[0]["max_tokens"] == 6
    assert fake.asked[0]["ignore_eos"] is True


async def test_servers_without_ignore_eos_are_not_asked_for_it(serve: Serve) -> None:
    fake = Fake([*WHOLE, "data: [DONE]\n\n"])
    await _one(serve, fake, to_the_end=False)
    assert "ignore_eos" not in fake.asked[0]


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        (WHOLE, "broke off"),
        ([_text("a"), _event(error={"code": "upstream_failed"})], "error event: upstream_failed"),
        (
            [_text("a"), _event(error={"type": "server_error", "code": None}), "data: [DONE]\n\n"],
            "error event: server_error",
        ),
    ],
)
async def test_a_stream_without_its_end_is_a_failure(serve: Serve, events: list[str], outcome: str) -> None:
    assert (await _one(serve, Fake(events))).outcome == outcome


@pytest.mark.parametrize(
    ("body", "outcome"),
    [({"error": {"code": "queue_full"}}, "503 queue_full"), ({"error": "busy"}, '503 "busy"'), ([], "503")],
)
async def test_a_refusal_is_named(serve: Serve, body: Any, outcome: str) -> None:
    assert (await _one(serve, Fake([], 503, body))).outcome == outcome


async def test_nobody_there(serve: Serve) -> None:
    async with client(Target("http://127.0.0.1:1", "m")) as sender:
        (sample,) = await sender.closed_loop([ASK], 1)
    assert sample.outcome == "unreachable"


async def test_a_closed_loop_keeps_so_many_running_on_as_many_connections(serve: Serve) -> None:
    fake = Fake([*WHOLE, "data: [DONE]\n\n"])
    url = await serve(fake.app)
    async with client(Target(url, "m")) as sender:
        samples = await sender.closed_loop([ASK] * 20, 4)
        assert len(sender.connections) == 4  # kept alive, used again
    assert [s.outcome for s in samples] == ["completed"] * 20
    assert 1 <= fake.most <= 4


async def test_an_open_loop_does_not_wait_for_answers(serve: Serve) -> None:
    fake = Fake([_text("a"), "hold", *WHOLE, "data: [DONE]\n\n"])
    url = await serve(fake.app)
    async with client(Target(url, "m")) as sender:
        load = asyncio.create_task(sender.open_loop([ASK] * 8, [0.0] * 8))
        while fake.running < 8:
            await asyncio.sleep(0)
        fake.hold.set()
        assert {s.outcome for s in await load} == {"completed"}


async def test_a_client_that_leaves_closes_its_connection(serve: Serve) -> None:
    fake = Fake([_text("a"), _text("b"), _text("c"), "hold"])
    url = await serve(fake.app)
    async with client(Target(url, "m")) as sender:
        (sample,) = await sender.open_loop([ASK], [0.0], leaving=[0])
        assert (sample.outcome, sample.output_tokens) == ("left", 3)  # half of six
        while not fake.gone:
            await asyncio.sleep(0)


async def test_the_last_in_line_is_cut_off_in_the_end(serve: Serve) -> None:
    fake = Fake([_text("a"), "hold"])
    url = await serve(fake.app)
    async with client(Target(url, "m")) as sender:
        sender._timeout_s = 0.05
        (sample,) = await sender.closed_loop([ASK], 1)
    assert sample.outcome == "timed out"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", ""])
def test_what_is_no_url_is_said_so(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        Client(Target(url, "m"))
