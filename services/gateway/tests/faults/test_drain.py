"""Drain: running requests finish, new ones are refused, inner calls of running ones are not."""

import asyncio
import signal
from typing import Any

import httpx2
from fake_upstream import FakeUpstream, delta, start_stream, usage_event
from faults.process import ADMIN_KEY
from faults.rest import until

from capstan.common.identity import Identity, Signer


def _models(url: str, **pool: Any) -> dict[str, Any]:
    return {"pools": {"p": {"urls": [url], **pool}}, "models": {"m": {"pool": "p"}, "inner": {"pool": "p"}}}


async def test_a_request_from_outside_is_refused_and_an_inner_call_served(gateway: Any, identity_secret: str) -> None:
    setup = await gateway()
    setup.gateway.lifecycle.draining = setup.gateway.lifecycle.refusing = True
    refused = await setup.chat()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) > 0
    token = Signer(identity_secret).sign(Identity("acme", "generator"))
    assert (await setup.chat(headers={"x-capstan-identity": token})).status_code == 200


class Streaming(FakeUpstream):
    """Streams stop after their first event until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.behave = self.in_two_parts

    async def in_two_parts(self, receive: Any, send: Any) -> None:
        if not self.requests[-1]["body"].get("stream"):
            await self.answer(receive, send)
            return
        await start_stream(send)
        await send({"type": "http.response.body", "body": delta("a"), "more_body": True})
        await self.go_on.wait()
        for piece in (*[delta("b")] * 20, usage_event(5, 21), b"data: [DONE]\n\n"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def test_sigterm_truncates_none_of_50_streams(process: Any, serve: Any) -> None:
    upstream = Streaming()
    gateway = await process(_models(await serve(upstream), max_concurrent=64))
    begun = 0
    all_begun = asyncio.Event()

    async def stream() -> str:
        nonlocal begun
        body = {"model": "m", "messages": [], "stream": True}
        text = ""
        async with gateway.client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for piece in response.aiter_text():
                begun += not text
                text += piece
                if begun == 50:
                    all_begun.set()
        return text

    streams = [asyncio.create_task(stream()) for _ in range(50)]
    await all_begun.wait()
    gateway.signal(signal.SIGTERM)
    await until(lambda: _is_refused(gateway))
    upstream.go_on.set()
    texts = await asyncio.gather(*streams)
    assert {(text.count('"content":"b"'), text.endswith("data: [DONE]\n\n")) for text in texts} == {(20, True)}
    assert await gateway._process.wait() == 0


async def _is_refused(gateway: Any) -> bool:
    response = await gateway.chat()
    return response.status_code == 503 and response.json()["error"]["code"] == "draining"


async def test_an_inner_call_of_a_running_request_is_served_during_the_drain(
    process: Any, serve: Any, identity_secret: str
) -> None:
    """The generator calls the gateway back while it answers, on a connection of its own."""
    worker, generator = FakeUpstream(), FakeUpstream()
    pools = {"g": {"urls": [await serve(generator)], "kind": "capstan"}, "p": {"urls": [await serve(worker)]}}
    gateway = await process({"pools": pools, "models": {"docs": {"pool": "g"}, "m": {"pool": "p"}}})
    token = Signer(identity_secret).sign(Identity("acme", "generator"))

    async def call_back(receive: Any, send: Any) -> None:
        gateway.signal(signal.SIGTERM)
        await until(lambda: _is_refused(gateway))
        async with httpx2.AsyncClient(base_url=gateway.client.base_url, trust_env=False) as inner:
            headers = {"x-capstan-identity": token}
            response = await inner.post(
                "/v1/chat/completions", json={"model": "m", "messages": [], "seed": 7}, headers=headers
            )
        assert response.status_code == 200
        await generator.answer(receive, send)

    generator.behave = call_back
    assert (await gateway.chat(model="docs")).status_code == 200
    assert [r["body"].get("seed") for r in worker.requests][-1] == 7
    assert await gateway._process.wait() == 0


async def test_in_the_drain_delay_it_is_not_ready_and_serves(process: Any, serve: Any) -> None:
    gateway = await process(_models(await serve(FakeUpstream())), DRAIN_DELAY_S="1")
    assert (await gateway.client.get("/readyz")).status_code == 200
    gateway.signal(signal.SIGTERM)
    await until(lambda: _is_unready(gateway))
    assert (await gateway.chat()).status_code == 200
    assert await gateway._process.wait() == 0


async def _is_unready(gateway: Any) -> bool:
    return bool((await gateway.client.get("/readyz")).status_code == 503)


async def test_the_admin_api_starts_a_drain(process: Any, serve: Any) -> None:
    gateway = await process(_models(await serve(FakeUpstream())))
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    assert (await gateway.client.post("/admin/v1/drain", headers=headers)).is_success
    assert await asyncio.wait_for(gateway._process.wait(), 10) == 0
