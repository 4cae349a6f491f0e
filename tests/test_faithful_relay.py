"""What the gateway answers is what vLLM answers, and of vLLM's other routes nothing is to be seen."""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import httpx2
import pytest
from compatibility_gateway import MODEL, CompatibilityGateway
from compatibility_requests import ANTHROPIC_TOOL, CHAT, FLAT_TOOL, SCHEMA, TOOL, WEATHER, events

pytestmark = pytest.mark.vllm

FAITHFUL: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {"messages": CHAT, "max_tokens": 6}),
    "chat n": ("chat/completions", {"messages": CHAT, "max_tokens": 3, "n": 2, "temperature": 1, "seed": 5}),
    "chat logprobs": ("chat/completions", {"messages": CHAT, "max_tokens": 3, "logprobs": True, "top_logprobs": 2}),
    "chat stop": ("chat/completions", {"messages": CHAT, "max_tokens": 20, "stop": ["e"]}),
    "chat token ids": ("chat/completions", {"messages": CHAT, "max_tokens": 3, "return_token_ids": True}),
    "chat tool": (
        "chat/completions",
        {"messages": WEATHER, "max_tokens": 128, "tools": [TOOL], "tool_choice": "required"},
    ),
    "chat auto": ("chat/completions", {"messages": WEATHER, "max_tokens": 16, "tools": [TOOL]}),
    "chat schema": (
        "chat/completions",
        {
            "messages": WEATHER,
            "max_tokens": 64,
            "response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}},
        },
    ),
    "completions": ("completions", {"prompt": "The pipe", "max_tokens": 6, "logprobs": 1}),
    "completions echo": ("completions", {"prompt": "The pipe", "max_tokens": 2, "echo": True}),
    "responses": ("responses", {"input": "Say hello.", "max_output_tokens": 6}),
    "responses tool": (
        "responses",
        {"input": WEATHER, "max_output_tokens": 128, "tools": [FLAT_TOOL], "tool_choice": "required"},
    ),
    "messages": ("messages", {"messages": CHAT, "max_tokens": 6, "system": "Be brief."}),
    "messages tool": (
        "messages",
        {"messages": WEATHER, "max_tokens": 128, "tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}},
    ),
}


@pytest.mark.parametrize("case", FAITHFUL)
def test_answers_are_vllm_s_own(gateway: CompatibilityGateway, case: str) -> None:
    path, fields = FAITHFUL[case]
    body = {"model": MODEL, "temperature": 0, **fields}
    direct, through = _both(gateway, f"/v1/{path}", body)
    assert (direct.status_code, through.status_code) == (200, 200)
    assert _lasting(through.json()) == _lasting(direct.json())


@pytest.mark.parametrize("case", FAITHFUL)
def test_streams_are_vllm_s_own(gateway: CompatibilityGateway, case: str) -> None:
    path, fields = FAITHFUL[case]
    body = {"model": MODEL, "temperature": 0, "stream": True, **fields}
    direct, through = _both(gateway, f"/v1/{path}", body)
    assert through.headers["content-type"] == direct.headers["content-type"]
    assert through.text.endswith("data: [DONE]\n\n") == direct.text.endswith("data: [DONE]\n\n")
    assert _outline(through.text) == _outline(direct.text)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("chat/completions", {"messages": CHAT, "temperature": 5}),
        ("chat/completions", {"messages": CHAT, "top_logprobs": 2}),
        ("chat/completions", {"messages": CHAT, "max_tokens": 100_000}),
        ("chat/completions", {"messages": CHAT, "max_tokens": 100_000, "stream": True}),
        ("chat/completions", {"messages": CHAT, "response_format": {"type": "json_schema"}}),
        ("completions", {"prompt": "x", "max_tokens": 100_000}),
        ("responses", {"input": "x", "temperature": "hot"}),
        ("responses", {"input": "x", "background": True}),
        ("responses", {"input": "x", "max_output_tokens": 100_000, "stream": True}),
        ("messages", {"messages": CHAT}),
        ("messages", {"messages": CHAT, "max_tokens": 100_000, "stream": True}),
    ],
)
def test_refusals_are_vllm_s_own(gateway: CompatibilityGateway, path: str, fields: dict[str, Any]) -> None:
    _same_answer(gateway, f"/v1/{path}", {"model": MODEL, **fields}, 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/embeddings", {"input": "one"}), ("/v1/rerank", {"query": "one", "documents": ["two"]})],
    ids=["embeddings", "rerank"],
)
def test_what_the_model_cannot_do_is_said_by_its_server(
    gateway: CompatibilityGateway, path: str, body: dict[str, Any]
) -> None:
    _same_answer(gateway, path, {"model": MODEL, **body}, 404)


OPEN = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/responses",
    "/v1/messages",
    "/v1/models",
    "/metrics",  # the gateway's own
}
SOMETIMES = [
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/pause", "/resume", "/is_paused", "/sleep", "/wake_up"),
    *("/collective_rpc", "/reset_prefix_cache", "/start_profile", "/stop_profile", "/abort_requests", "/server_info"),
    *("/v1/score", "/score", "/rerank", "/v2/rerank", "/pooling", "/classify", "/v2/embed", "/inference/v1/generate"),
    *("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime", "/v1/files", "/v1/batches"),
]
"""Routes that vLLM has with other models, flags or modes."""
TRICKS = [
    "//v1/chat/completions",
    "/v1/chat/completions/../../../tokenize",
    "/v1/chat/completions/batch",
    "/v1/chat/completions%2f..%2f..%2f..%2ftokenize",
    "/V1/chat/completions",
    "http://127.0.0.1/tokenize",
]


def test_every_other_route_of_vllm_is_closed(gateway: CompatibilityGateway) -> None:
    routes = httpx2.get(f"{gateway.worker}/openapi.json", trust_env=False).json()["paths"]
    assert "/tokenize" in routes
    body = {"model": MODEL, "prompt": "x", "messages": CHAT, "input": "x", "text_1": "x", "text_2": "x"}
    opened = []
    with gateway.http() as http:
        for path in sorted({*routes, *SOMETIMES} - OPEN):
            for method in ("GET", "POST"):
                answer = http.request(method, path.replace("{response_id}", "resp_1"), json=body)
                if answer.status_code != 404:
                    opened.append((method, path, answer.status_code))
    assert not opened


@pytest.mark.parametrize("target", TRICKS)
def test_no_spelling_opens_a_closed_route(gateway: CompatibilityGateway, target: str) -> None:
    with gateway.http() as http:
        request = http.build_request("POST", "/", json={"model": MODEL, "prompt": "x", "messages": CHAT})
        request.extensions = {**request.extensions, "target": target.encode()}
        answer = http.send(request)
    assert answer.status_code in (400, 404)


def test_the_worker_s_metrics_stay_inside(gateway: CompatibilityGateway) -> None:
    with gateway.http() as http:
        assert "vllm:" not in http.get("/metrics").text


# Helpers


def _both(gateway: CompatibilityGateway, path: str, body: dict[str, Any]) -> tuple[httpx2.Response, httpx2.Response]:
    """vLLM's own answer and the gateway's, both of a prompt that a first request has put into the cache."""
    short = {name: 1 for name in ("max_tokens", "max_output_tokens") if name in body}
    with httpx2.Client(base_url=gateway.worker, timeout=120, trust_env=False) as worker, gateway.http() as http:
        worker.post(path, json={**body, **short})
        return worker.post(path, json=body), http.post(path, json=body)


def _same_answer(gateway: CompatibilityGateway, path: str, body: dict[str, Any], status: int) -> None:
    direct, through = _both(gateway, path, body)
    assert (direct.status_code, through.status_code) == (status, status)
    assert through.content == direct.content
    assert through.headers["content-type"] == direct.headers["content-type"]


_FLEETING = {"id", "item_id", "call_id", "created", "created_at", "sequence_number", "system_fingerprint"}
"""What differs between requests. A stream's fingerprint stands in the usage chunk where there is one."""


def _lasting(value: Any, keep: bool = True) -> Any:
    """An answer without what is fleeting; `keep=False` leaves out the texts too."""
    if isinstance(value, dict):
        return {key: _lasting(item, keep) for key, item in value.items() if key not in _FLEETING}
    if isinstance(value, list):
        return [_lasting(item, keep) for item in value]
    if isinstance(value, float):
        return round(value, 2)
    return value if keep or not isinstance(value, str) else "text"


def _outline(stream: str) -> dict[int, tuple[list[str], str]]:
    """Each choice's kinds of events in order, and its text; how many tokens share an event, and which choice of
    several speaks next, is up to the moment."""
    lanes: dict[int, list[Any]] = {}
    for event in events(stream):
        lanes.setdefault(_choice(event), []).append(event)
    return {choice: _lane(seen) for choice, seen in lanes.items()}


def _choice(event: Any) -> int:
    choices = event.get("choices") if isinstance(event, dict) else None
    return int(choices[0]["index"]) if choices else 0


def _lane(seen: list[Any]) -> tuple[list[str], str]:
    kinds = [kind for kind, _ in groupby(json.dumps(_keys(event), sort_keys=True) for event in seen)]
    return kinds, "".join(piece for event in seen for piece in _pieces(event))


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        named = {key: _keys(item) for key, item in value.items() if key not in _FLEETING}
        return {**named, "type": value["type"]} if isinstance(value.get("type"), str) else named
    if isinstance(value, list):
        return [_keys(item) for item in value[:1]]
    return type(value).__name__


def _pieces(event: Any) -> Iterator[str]:
    if isinstance(event, dict):
        for key, value in event.items():
            if key in ("content", "text", "delta", "arguments", "partial_json") and isinstance(value, str):
                yield value
            else:
                yield from _pieces(value)
    elif isinstance(event, list):
        for value in event:
            yield from _pieces(value)
