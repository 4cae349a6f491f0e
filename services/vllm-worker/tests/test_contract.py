"""The same requests to a real vLLM and to the simulator: the answers must have the same shape.

The real one is the end-to-end tests' stack, or any worker that CAPSTAN_TEST_VLLM_URL names.
"""

import json
import os
import re
import time
import uuid
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.vllm

# Long enough for both to fill blocks of their prefix cache.
PROMPT = "Name the parts of a ship and say in a few words what each of them is for. " * 8
CHAT = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4, "ignore_eos": True, "temperature": 0}
TEXT = {"prompt": PROMPT, "max_tokens": 4, "ignore_eos": True, "temperature": 0}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CONTINUOUS = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
MESSAGES = {"messages": CHAT["messages"]}

COMPLETIONS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    ("/v1/chat/completions", CHAT | USAGE),
    ("/v1/chat/completions", CHAT | CONTINUOUS),
    ("/v1/completions", TEXT),
    ("/v1/completions", TEXT | {"stream": True}),
    ("/v1/completions", TEXT | USAGE),
    ("/v1/completions", TEXT | CONTINUOUS),
    ("/tokenize", {"prompt": "One two"}),
    ("/tokenize", MESSAGES),
]

MISTAKES = [
    ("/v1/chat/completions", CHAT | {"model": "nope"}),
    ("/v1/chat/completions", CHAT | {"max_tokens": 10**6}),
    ("/v1/chat/completions", CHAT | {"max_tokens": 0}),
    ("/v1/chat/completions", CHAT | {"max_tokens": "x"}),
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"messages": "x"}),
    ("/v1/chat/completions", {"messages": {"a": 1}}),
    ("/v1/chat/completions", CHAT | {"max_tokens": [1]}),
    ("/v1/completions", {}),
    ("/v1/completions", {"prompt": ""}),
    ("/v1/chat/completions", {}),
    ("/v1/chat/completions", CHAT | {"stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word thing " * 9000}]}),
    ("/v1/completions", TEXT | {"model": "nope"}),
    ("/v1/completions", {"prompt": "word thing " * 9000}),
]


class Peer:
    """One of the two servers."""

    def __init__(self, client: httpx2.AsyncClient, model: str) -> None:
        self.client = client
        self.model = model

    async def post(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        return await self.client.post(path, json={"model": self.model} | body)

    async def samples(self) -> list[Any]:
        text = (await self.client.get("/metrics")).text
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


@pytest.fixture
async def real(request: pytest.FixtureRequest):
    url = os.environ.get("CAPSTAN_TEST_VLLM_URL") or request.getfixturevalue("vllm_stack").url("worker")
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
        yield Peer(client, (await client.get("/v1/models")).json()["data"][0]["id"])


@pytest.fixture
async def fake(simulate, real):
    context = (await real.client.get("/v1/models")).json()["data"][0]["max_model_len"]
    return Peer((await simulate(max_model_len=context)).client, "sim")


def shape(value: Any) -> Any:
    """Keys, types and nulls of a JSON value, without its content."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def chunk_shapes(response: httpx2.Response) -> list[Any]:
    """The shape of each event in turn; of equal ones in a row, one."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    shapes: list[Any] = []
    for event in response.text.split("\n\n"):
        if event:
            data = event.removeprefix("data: ")
            found = data if data == "[DONE]" else shape(json.loads(data))
            if found not in shapes[-1:]:
                shapes.append(found)
    return shapes


def error_of(response: httpx2.Response, model: str) -> tuple[int, dict[str, Any]]:
    """Status and error, with the numbers and names that must differ taken out of the words."""
    error = response.json()["error"]
    words = re.sub(r"\d+", "N", error["message"].replace(model, "MODEL"))
    return response.status_code, error | {"message": words}


@pytest.mark.parametrize(("path", "body"), COMPLETIONS)
async def test_answers_have_the_same_shape(real, fake, path, body):
    # A prompt of its own: one that vLLM knows from an earlier test is answered from its cache, and says so.
    body = json.loads(json.dumps(body).replace(PROMPT, f"{uuid.uuid4()} {PROMPT}"))
    theirs, ours = await real.post(path, body), await fake.post(path, body)

    assert (ours.status_code, theirs.status_code) == (200, 200)
    if body.get("stream"):
        assert chunk_shapes(ours) == chunk_shapes(theirs)
    else:
        assert shape(ours.json()) == shape(theirs.json())


@pytest.mark.parametrize(("path", "body"), MISTAKES)
async def test_mistakes_get_the_same_error(real, fake, path, body):
    theirs, ours = await real.post(path, body), await fake.post(path, body)

    assert error_of(ours, fake.model) == error_of(theirs, real.model)


@pytest.mark.parametrize("content", [b'{"model": "x", "mess', b"{,}", b"[1]", b"3"])
async def test_broken_json_gets_the_same_error(real, fake, content):
    headers = {"content-type": "application/json"}
    theirs = await real.client.post("/v1/chat/completions", content=content, headers=headers)
    ours = await fake.client.post("/v1/chat/completions", content=content, headers=headers)

    assert error_of(ours, fake.model) == error_of(theirs, real.model)


@pytest.mark.parametrize("path", ["/v1/models", "/version", "/load", "/health", "/ping", "/nope", "/v1/completions"])
async def test_other_routes_answer_alike(real, fake, path):
    theirs, ours = await real.client.get(path), await fake.client.get(path)

    assert ours.status_code == theirs.status_code
    assert bool(ours.content) == bool(theirs.content)
    if ours.content:
        assert shape(ours.json()) == shape(theirs.json())


async def test_every_simulated_metric_is_one_of_vllm_s(real, fake):
    await real.post("/v1/completions", TEXT)
    theirs: dict[str, set[frozenset[str]]] = {}
    for sample in await real.samples():
        theirs.setdefault(sample.name, set()).add(frozenset(sample.labels))
    infos = ("vllm:lora_requests_info", "vllm:cache_config_info")  # there with LoRA only; with many more labels
    ours = [s for s in await fake.samples() if s.name.startswith("vllm:") and s.name not in infos]

    assert len(ours) > 100
    assert [s.name for s in ours if frozenset(s.labels) not in theirs.get(s.name, ())] == []


async def test_a_client_that_leaves_is_gone_from_both_and_counted_in_neither(real, fake):
    for peer in (real, fake):
        before = await _aborts(peer)
        body = {"model": peer.model} | CHAT | {"max_tokens": 4000, "stream": True}
        async with peer.client.stream("POST", "/v1/chat/completions", json=body) as response:
            await anext(response.aiter_bytes())
        deadline = time.monotonic() + 10
        while await _running(peer) and time.monotonic() < deadline:
            pass
        assert await _running(peer) == 0
        assert await _aborts(peer) == before


async def _running(peer: Peer) -> float:
    return sum(s.value for s in await peer.samples() if s.name == "vllm:num_requests_running")


async def _aborts(peer: Peer) -> float:
    success = [s for s in await peer.samples() if s.name == "vllm:request_success_total"]
    return sum(s.value for s in success if s.labels["finished_reason"] == "abort")
