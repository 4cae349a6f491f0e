"""Every model route: usage is metered, streams pass byte for byte, broken ones end in that API's own error event."""

from typing import Any

import orjson
import pytest
from fake_upstream import reply, start_stream

from capstan.gateway.api import APIS


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


_RESPONSES_USAGE = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 3}
STREAMS = {
    "/v1/responses": [
        _event("response.created", response={"id": "r", "usage": None}),
        _event("response.output_text.delta", delta="a"),
        _event("response.output_text.delta", delta="event: response.completed"),
        _event("response.completed", response={"id": "r", "usage": _RESPONSES_USAGE}),
    ],
    "/v1/messages": [
        _event(
            "message_start", message={"usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}}
        ),
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}),
        _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
        _event("message_stop"),
    ],
}
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/responses": {"input": "hello", "max_output_tokens": 9},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9},
    "/v1/embeddings": {"input": ["hello", "there"]},
    "/v1/rerank": {"query": "q", "documents": ["a", "b"]},
    "/v1/completions": {"prompt": "hello", "max_tokens": 9},
}
USAGE = {
    "/v1/responses": (_RESPONSES_USAGE, 5, 3),
    "/v1/messages": ({"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 3}, 5, 3),
    "/v1/embeddings": ({"prompt_tokens": 6, "total_tokens": 6}, 6, 0),
    "/v1/rerank": ({"total_tokens": 8}, 8, 0),
    "/v1/completions": ({"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}, 2, 4),
}


async def _tokens(setup: Any, kind: str) -> float:
    return float(await setup.metric(f'capstan_gateway_tokens_total{{model="m",tenant="acme",type="{kind}"}}'))


def test_every_route_is_here() -> None:
    assert REQUESTS.keys() | {"/v1/chat/completions"} == APIS.keys()


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_whole_answer_passes_and_is_metered(gateway: Any, auth: dict[str, str], path: str) -> None:
    setup = await gateway()
    usage, prompt, output = USAGE[path]
    body = orjson.dumps({"id": "x", "usage": usage}, option=orjson.OPT_INDENT_2)

    async def answer(_: Any, send: Any) -> None:
        await reply(send, 200, body)

    setup.upstream.behave = answer
    response = await setup.client.post(path, json={"model": "m", **REQUESTS[path]}, headers=auth)
    assert (response.status_code, response.content) == (200, body)
    assert setup.upstream.requests[0]["path"] == path
    assert (await _tokens(setup, "input"), await _tokens(setup, "output")) == (prompt, output)


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_passes_byte_for_byte_and_is_metered(gateway: Any, auth: dict[str, str], path: str) -> None:
    setup = await gateway()
    setup.upstream.behave = _streaming(STREAMS[path])
    response = await setup.client.post(path, json={"model": "m", "stream": True, **REQUESTS[path]}, headers=auth)
    assert response.content == b"".join(STREAMS[path])
    assert "stream_options" not in setup.upstream.requests[0]["body"]
    assert (await _tokens(setup, "input"), await _tokens(setup, "output")) == (5, 3)
    assert await setup.metric('capstan_gateway_cached_tokens_total{model="m",tenant="acme"}') == 2
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="completed"') == 1


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("dies", [True, False], ids=["killed", "ended"])
async def test_a_broken_stream_ends_in_the_apis_own_error_event(
    gateway: Any, auth: dict[str, str], path: str, dies: bool
) -> None:
    setup = await gateway()
    setup.upstream.behave = _streaming(STREAMS[path][:-1], dies=dies)
    response = await setup.client.post(path, json={"model": "m", "stream": True, **REQUESTS[path]}, headers=auth)
    *before, last = response.content.removesuffix(b"\n\n").split(b"\n\n")
    assert b"".join(event + b"\n\n" for event in before) == b"".join(STREAMS[path][:-1])
    name, data = last.split(b"\n")
    error = orjson.loads(data.removeprefix(b"data: "))
    assert (name, error["type"]) == (b"event: error", "error")
    if path == "/v1/responses":
        assert error["code"] == "upstream_died"
    else:
        assert (error["error"]["type"], error["error"]["code"]) == ("api_error", "upstream_died")
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="upstream_died"') == 1


def _streaming(events: list[bytes], dies: bool = False) -> Any:
    async def stream(_: Any, send: Any) -> None:
        await start_stream(send)
        for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        if dies:
            raise ConnectionError("the worker was killed")
        await send({"type": "http.response.body", "body": b""})

    return stream


async def test_an_anthropic_client_sends_its_key_its_own_way(gateway: Any, auth: dict[str, str]) -> None:
    setup = await gateway()
    key = auth["authorization"].removeprefix("Bearer ")
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "anthropic-beta": "b"}
    body = {"model": "m", **REQUESTS["/v1/messages"]}
    assert (await setup.client.post("/v1/messages", json=body, headers=headers)).status_code == 200
    sent = setup.upstream.requests[0]["headers"]
    assert (sent["anthropic-version"], sent["anthropic-beta"]) == ("2023-06-01", "b")
    assert key not in str(sent)
    refused = await setup.client.post("/v1/messages", json=body, headers={"x-api-key": "no.key"})
    assert (refused.status_code, refused.json()["type"]) == (401, "error")
    assert refused.json()["error"]["type"] == "authentication_error"


HOSTED = {"input": 10.0, "cached_input": 1.0, "output": 100.0}


async def test_a_hosted_pool_gets_its_own_key_and_its_cached_tokens_are_priced(
    gateway: Any, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTED_KEY", "sk-of-the-operator")
    pool = {"kind": "openai", "api_key_env": "HOSTED_KEY"}
    setup = await gateway(pool=pool, models={"m": {"pool": "p", "upstream_model": "big-1", "price": HOSTED}})

    async def answer(_: Any, send: Any) -> None:
        usage = {"prompt_tokens": 50, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 40}}
        await reply(send, 200, orjson.dumps({"usage": usage}))

    setup.upstream.behave = answer
    assert (await setup.chat()).status_code == 200
    sent = setup.upstream.requests[0]
    assert (sent["headers"]["authorization"], sent["body"]["model"]) == ("Bearer sk-of-the-operator", "big-1")
    assert auth["authorization"].removeprefix("Bearer ") not in str(sent)
    cost = (10 * 10 + 40 * 1 + 7 * 100) / 1e6
    assert await setup.metric("capstan_gateway_cost_dollars_total{") == pytest.approx(cost)
    usage = (await setup.client.get("/v1/usage", headers=auth)).json()
    assert usage["totals"]["cost_usd"] == pytest.approx(cost)
    assert usage["totals"]["cached_input_tokens"] == 40
