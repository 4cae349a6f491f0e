"""`x-capstan-max-wait-ms`: the longest wait that a client accepts."""

import asyncio
from typing import Any

import pytest
from faults.rest import until


async def test_a_request_that_may_not_wait_is_refused(gateway: Any, auth: dict[str, str]) -> None:
    setup = await gateway(pool={"max_concurrent": 1})
    setup.upstream.behave = setup.upstream.hang
    running = asyncio.create_task(setup.chat())
    await setup.upstream.reached.wait()
    response = await setup.chat(headers={**auth, "x-capstan-max-wait-ms": "20"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "queue_timeout")
    assert int(response.headers["retry-after"]) > 0
    running.cancel()
    await until(lambda: setup.gateway.router.pools["p"].gate.running == 0)
    setup.upstream.behave = setup.upstream.answer
    assert (await setup.chat(headers={**auth, "x-capstan-max-wait-ms": "0"})).status_code == 200


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "", "1e12"])
async def test_a_wait_that_is_none_is_named_and_holds_nothing(gateway: Any, auth: dict[str, str], value: str) -> None:
    setup = await gateway()
    response = await setup.chat(headers={**auth, "x-capstan-max-wait-ms": value})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
    assert "x-capstan-max-wait-ms" in response.json()["error"]["message"]
    assert not setup.book.open
