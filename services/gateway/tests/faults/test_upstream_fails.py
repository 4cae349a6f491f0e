"""An upstream that fails: one more try before the first byte, an error event after it."""

import asyncio
from typing import Any

import orjson
import pytest
from faults.raw_upstream import answer, die, die_in_body, die_in_stream, unavailable
from faults.rest import is_zero, until
from simulated_worker import MODEL, Worker


async def _pair(gateway: Any, raw: Any, first: Any, second: Any, **pool: Any) -> tuple[Any, list[Any]]:
    """A gateway with two upstreams, and these two."""
    upstreams = [await raw(first), await raw(second)]
    return await gateway(urls=[u.url for u in upstreams], pool=pool), upstreams


@pytest.mark.parametrize("fault", [die, die_in_body, unavailable])
async def test_a_failure_before_the_first_byte_is_tried_once_more_elsewhere(gateway: Any, raw: Any, fault: Any) -> None:
    setup, (faulty, good) = await _pair(gateway, raw, fault, answer)
    responses = [await setup.chat() for _ in range(3)]  # equals take turns: some meet the fault
    assert [r.status_code for r in responses] == [200] * 3
    assert (good.requests, faulty.requests > 0) == (3, True)
    assert await setup.metric("capstan_gateway_retries_total{") == faulty.requests
    assert sum(b'"retried":true' in line for line in _log(setup)) == faulty.requests


async def test_there_are_two_tries_and_no_more(gateway: Any, raw: Any) -> None:
    setup, upstreams = await _pair(gateway, raw, die, die)
    response = await setup.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_died")
    assert [u.requests for u in upstreams] == [1, 1]


async def test_without_a_retry_budget_there_is_one_try(gateway: Any, raw: Any) -> None:
    setup, upstreams = await _pair(gateway, raw, die, die, retry_ratio=0)
    assert (await setup.chat()).status_code == 502
    assert sum(u.requests for u in upstreams) == 1


async def test_an_outage_does_not_double_the_load(gateway: Any, raw: Any) -> None:
    """After its first ten retries a pool gets one for every ten requests, and one a second."""
    setup, upstreams = await _pair(gateway, raw, die, die, breaker_failures=1000)
    for _ in range(40):
        assert (await setup.chat()).status_code == 502
    retries = await setup.metric("capstan_gateway_retries_total{")
    assert sum(u.requests for u in upstreams) == 40 + retries
    assert 10 <= retries < 25


async def test_after_the_first_byte_there_is_no_second_try(gateway: Any, raw: Any) -> None:
    setup, upstreams = await _pair(gateway, raw, die_in_stream, die_in_stream)
    response = await setup.chat(stream=True)
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert orjson.loads(events[-1])["error"]["code"] == "upstream_died"
    assert "[DONE]" not in events
    assert sum(u.requests for u in upstreams) == 1


async def test_a_silent_upstream_is_not_asked_twice(gateway: Any, raw: Any) -> None:
    setup, upstreams = await _pair(gateway, raw, _silent, _silent, first_byte_timeout_s=0.05)
    assert (await setup.chat()).status_code == 504
    assert sum(u.requests for u in upstreams) == 1


async def _silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def test_when_all_say_503_the_client_gets_it(gateway: Any, raw: Any) -> None:
    setup, upstreams = await _pair(gateway, raw, unavailable, unavailable)
    response = await setup.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "starting")
    assert [u.requests for u in upstreams] == [1, 1]


async def test_a_member_that_declines_all_does_not_use_up_the_retries(gateway: Any, raw: Any) -> None:
    """A draining worker answers 503, looks least loaded, and its probe may still be good."""
    setup, (draining, good) = await _pair(gateway, raw, unavailable, answer, retry_ratio=0.01)
    began = asyncio.get_running_loop().time()
    assert [(await setup.chat()).status_code for _ in range(100)] == [200] * 100
    assert draining.requests <= 2 + asyncio.get_running_loop().time() - began
    assert good.requests == 100


async def test_a_worker_killed_mid_stream_ends_in_an_error_event(gateway: Any, auth: dict[str, str]) -> None:
    worker = Worker(CAPSTAN_WORKER_SIM_TPOT_MS="20")
    try:
        setup = await gateway(urls=[worker.url], models={MODEL: {"pool": "p"}}, probe_interval_s=0.05)
        await until(lambda: _answers(setup), 30)
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "word " * 200}],
            "max_tokens": 200,
            "stream": True,
        }
        events: list[str] = []
        async with setup.client.stream("POST", "/v1/chat/completions", json=body, headers=auth) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    events.append(line[6:])
                if len(events) == 3:
                    worker.kill()
    finally:
        worker.kill()
    assert orjson.loads(events[-1])["error"]["code"] == "upstream_died"
    assert "[DONE]" not in events
    assert await setup.metric(f'capstan_gateway_tokens_total{{model="{MODEL}",tenant="acme",type="output"}}') >= 3
    await until(lambda: is_zero(setup, "capstan_gateway_upstream_healthy{"))


async def _answers(setup: Any) -> bool:
    return (await setup.chat(model=MODEL, max_tokens=1)).status_code == 200


def _log(setup: Any) -> list[bytes]:
    setup.gateway._log.flush()
    return b"".join(setup.log).splitlines()
