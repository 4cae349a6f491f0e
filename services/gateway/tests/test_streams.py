"""Streams: bytes, usage, failures, and clients that go away."""

import asyncio
from itertools import pairwise
from typing import Any

import httpx2
import orjson
import pytest
from fake_upstream import delta, start_stream
from hypothesis import given
from hypothesis import strategies as st

from capstan.gateway.tap import StreamTap, Usage


def _events(text: str) -> list[Any]:
    return [line[6:] for line in text.splitlines() if line.startswith("data: ")]


async def test_a_stream_passes_and_its_usage_is_metered_though_hidden(gateway: Any) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.stream
    events = _events((await setup.chat(stream=True)).text)
    assert events[-1] == "[DONE]"
    assert [orjson.loads(e)["choices"][0]["delta"]["content"] for e in events[:-1]] == ["a", "b"]
    assert setup.upstream.requests[0]["body"]["stream_options"] == {"include_usage": True}
    assert await setup.metric('capstan_gateway_tokens_total{model="m",tenant="acme",type="output"}') == 2


async def test_a_client_that_asks_for_usage_gets_it(gateway: Any) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.stream
    events = _events((await setup.chat(stream=True, stream_options={"include_usage": True})).text)
    assert orjson.loads(events[-2])["usage"]["completion_tokens"] == 2


async def test_other_stream_options_survive(gateway: Any) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.stream
    await setup.chat(stream=True, stream_options={"continuous_usage_stats": False})
    options = setup.upstream.requests[0]["body"]["stream_options"]
    assert options == {"continuous_usage_stats": False, "include_usage": True}


async def test_an_upstream_that_dies_mid_stream_ends_in_an_error_event(gateway: Any) -> None:
    setup = await gateway()

    async def die(receive: Any, send: Any) -> None:
        await start_stream(send)
        await send({"type": "http.response.body", "body": delta("a"), "more_body": True})
        raise ConnectionError("the worker was killed")

    setup.upstream.behave = die
    events = _events((await setup.chat(stream=True)).text)
    assert "[DONE]" not in events
    assert orjson.loads(events[-1])["error"]["code"] == "upstream_died"
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="upstream_died"') == 1
    assert await setup.metric('capstan_gateway_tokens_total{model="m",tenant="acme",type="output"}') == 1


async def test_an_error_inside_a_stream_is_passed_on_and_counted_as_one(gateway: Any) -> None:
    """vLLM answers 200 and then an error event when its queue fills in the same moment."""
    setup = await gateway()

    async def overloaded(receive: Any, send: Any) -> None:
        await start_stream(send)
        body = b'data: {"error": {"message": "queue is full", "code": 503}}\n\ndata: [DONE]\n\n'
        await send({"type": "http.response.body", "body": body})

    setup.upstream.behave = overloaded
    events = _events((await setup.chat(stream=True)).text)
    assert orjson.loads(events[0])["error"]["message"] == "queue is full"
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="upstream_error"') == 1


async def test_a_silent_upstream_times_out(gateway: Any) -> None:
    setup = await gateway(pool={"idle_timeout_s": 0.05})
    setup.upstream.behave = setup.upstream.stream_then_hang
    events = _events((await setup.chat(stream=True)).text)
    assert orjson.loads(events[-1])["error"]["code"] == "upstream_timeout"
    await asyncio.wait_for(setup.upstream.disconnected.wait(), 1)


async def test_an_upstream_that_never_begins_times_out(gateway: Any) -> None:
    setup = await gateway(pool={"first_byte_timeout_s": 0.05})
    setup.upstream.behave = setup.upstream.hang
    response = await setup.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")
    await asyncio.wait_for(setup.upstream.disconnected.wait(), 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_byte_aborts_the_upstream(gateway: Any, stream: bool) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.hang
    request = asyncio.create_task(setup.chat(stream=stream))
    await setup.upstream.reached.wait()
    request.cancel()
    await asyncio.wait_for(setup.upstream.disconnected.wait(), 1)
    await _until(lambda: setup.metric("capstan_gateway_running{"), 0)
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="client_closed"') == 1
    # its prompt was read: hanging up early is not a way to work for free
    assert await setup.metric('capstan_gateway_tokens_total{model="m",tenant="acme",type="input"}') > 0


async def test_a_client_that_leaves_mid_stream_aborts_the_upstream(gateway: Any, auth: dict[str, str]) -> None:
    setup = await gateway()
    setup.upstream.behave = setup.upstream.stream_then_hang
    body = {"model": "m", "messages": [], "stream": True}
    async with setup.client.stream("POST", "/v1/chat/completions", json=body, headers=auth) as response:
        await anext(response.aiter_bytes())
    await asyncio.wait_for(setup.upstream.disconnected.wait(), 1)
    await _until(lambda: setup.metric("capstan_gateway_running{"), 0)


async def test_a_client_that_leaves_the_queue_frees_its_place(gateway: Any) -> None:
    setup = await gateway(pool={"max_concurrent": 1, "max_queued": 1})
    setup.upstream.behave = setup.upstream.hang
    running = asyncio.create_task(setup.chat())
    await setup.upstream.reached.wait()
    waiting = asyncio.create_task(setup.chat())
    await _until(lambda: setup.metric("capstan_gateway_queued{"), 1)
    full = await setup.chat()
    assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
    waiting.cancel()
    await _until(lambda: setup.metric("capstan_gateway_queued{"), 0)
    running.cancel()
    await _until(lambda: setup.metric("capstan_gateway_running{"), 0)
    assert len(setup.upstream.requests) == 1


async def test_a_slow_client_holds_the_upstream_back(gateway: Any, auth: dict[str, str]) -> None:
    """Backpressure: what the upstream may send ahead of a client that does not read is bounded."""
    setup = await gateway()
    sent = 0

    async def flood(receive: Any, send: Any) -> None:
        nonlocal sent
        await start_stream(send)
        for _ in range(2000):
            sent += 1
            await send({"type": "http.response.body", "body": delta("x" * 32_768), "more_body": True})

    setup.upstream.behave = flood
    host, port = setup.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = orjson.dumps({"model": "m", "messages": [], "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + f"authorization: {auth['authorization']}\r\n\r\n".encode() + body)
    await reader.readline()
    before = -1
    while before != sent:  # until the upstream is stuck
        before = sent
        await asyncio.sleep(0.2)
    assert sent < 1000
    writer.transport.abort()


async def _until(measure: Any, value: float) -> None:
    async with asyncio.timeout(2):
        while await measure() != value:
            await asyncio.sleep(0.01)


def _cuts(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({p % (len(data) + 1) for p in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(borders)]


_WHOLE = (
    b'data: {"choices":[{"delta":{"content":"the \\"usage\\": field"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"b"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(min_value=0, max_value=len(_WHOLE)), max_size=8), st.booleans())
def test_the_tap_does_not_care_where_the_network_cuts(places: list[int], forward: bool) -> None:
    tap = StreamTap(forward_usage=forward)
    out = b"".join(tap.feed(piece) for piece in _cuts(_WHOLE, places))
    expected = _WHOLE if forward else b"\n\n".join(e for e in _WHOLE.split(b"\n\n") if b'"choices":[]' not in e)
    assert out == expected
    assert (tap.usage, tap.events, tap.done) == (Usage(3, 2), 2, True)


async def test_connections_are_reused_and_a_closed_one_is_replaced(gateway: Any) -> None:
    setup = await gateway()
    for _ in range(3):
        assert (await setup.chat()).status_code == 200

    async def close_after(receive: Any, send: Any) -> None:
        body = b"{}"
        headers = [(b"content-length", b"2"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    setup.upstream.behave = close_after
    assert [(await setup.chat()).status_code for _ in range(3)] == [200] * 3


async def test_many_streams_at_once(gateway: Any) -> None:
    setup = await gateway(pool={"max_concurrent": 8, "max_queued": 200}, tenant={"max_concurrent": 500})
    setup.upstream.behave = setup.upstream.stream
    responses: list[httpx2.Response] = await asyncio.gather(*(setup.chat(stream=True) for _ in range(100)))
    assert all(_events(r.text)[-1] == "[DONE]" for r in responses)
    assert await setup.metric("capstan_gateway_running{") == 0
