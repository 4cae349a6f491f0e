import asyncio

import httpx2
import pytest


async def read(parts, into):
    async for part in parts:
        into.extend(part)


BODY = {"model": "sim", "messages": [{"role": "user", "content": "a b c d e f"}], "stream": True}


def post(simulated, fault, **fields):
    headers = {"x-sim-fault": fault}
    return simulated.client.stream("POST", "/v1/chat/completions", json=BODY | fields, headers=headers)


async def test_the_header_does_nothing_unless_faults_are_on(simulate):
    simulated = await simulate()
    async with post(simulated, "error-500") as response:
        assert response.status_code == 200


async def test_a_fault_that_is_none_is_refused(simulate):
    simulated = await simulate(sim_faults=True)
    async with post(simulated, "explode") as response:
        assert response.status_code == 400


async def test_error(simulate):
    simulated = await simulate(sim_faults=True)
    async with post(simulated, "error-500") as response:
        assert response.status_code == 500


async def test_a_connection_breaks_after_three_tokens(simulate):
    simulated = await simulate(sim_faults=True)
    received = bytearray()
    async with post(simulated, "die-mid-stream") as response:
        with pytest.raises(httpx2.RemoteProtocolError):
            await read(response.aiter_bytes(), received)

    assert received.count(b"data: {") >= 3
    assert b"[DONE]" not in received


async def test_a_stream_hangs_after_three_tokens(simulate):
    simulated = await simulate(sim_faults=True)
    async with post(simulated, "hang-mid-stream") as response:
        received = bytearray()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(response.aiter_bytes(), received), 0.2)

    assert b"data: {" in received
    assert b"[DONE]" not in received


async def test_a_whole_response_never_comes(simulate):
    simulated = await simulate(sim_faults=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), post(simulated, "hang", stream=False):
            pass


async def test_headers_come_late(simulate):
    simulated = await simulate(sim_faults=True)
    async with post(simulated, "slow-headers:30") as response:
        assert response.status_code == 200

    assert simulated.clock.now() >= 30
