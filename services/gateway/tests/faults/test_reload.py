"""Reload, by SIGHUP and by the admin API: a good file takes effect, a broken one is refused, nothing is dropped."""

import signal
from typing import Any

import pytest
from fake_upstream import FakeUpstream
from faults.process import ADMIN_KEY, GatewayProcess
from faults.rest import until
from faults.test_drain import Streaming

ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}


async def _hang_up(gateway: GatewayProcess, expected: str) -> None:
    before = len(gateway.logged(expected))
    gateway.signal(signal.SIGHUP)
    await until(lambda: len(gateway.logged(expected)) > before)


async def _ask(gateway: GatewayProcess, expected: str) -> None:
    response = await gateway.client.post("/admin/v1/reload", headers=ADMIN)
    assert response.is_success == (expected == "reloaded"), response.text


@pytest.mark.parametrize("reload", [_hang_up, _ask])
async def test_reload(process: Any, serve: Any, reload: Any) -> None:
    old, new = Streaming(), FakeUpstream()
    models: dict[str, Any] = {"pools": {"p": {"urls": [await serve(old)]}}, "models": {"m": {"pool": "p"}}}
    gateway = await process(models)
    body = {"model": "m", "messages": [], "stream": True}
    async with gateway.client.stream("POST", "/v1/chat/completions", json=body) as response:
        text = response.aiter_text()
        seen = await anext(text)
        # a good file: the pool is gone, another one serves the model; the stream goes on
        gateway.write_models({"pools": {"q": {"urls": [await serve(new)]}}, "models": {"m": {"pool": "q"}}})
        gateway.limit_tenant(requests_per_minute=77)
        await reload(gateway, "reloaded")
        answered = await gateway.chat()
        assert (answered.status_code, len(new.requests)) == (200, 1)
        assert answered.headers["x-ratelimit-limit-requests"] == "77"
        # broken files: refused whole, what is in force stays
        gateway.models_file.write_text("pools: {p: {}}\nmodels: {m: {pool: p}}")
        gateway.limit_tenant(requests_per_minute=88)
        await reload(gateway, "reload refused")
        answered = await gateway.chat()
        assert (answered.status_code, answered.headers["x-ratelimit-limit-requests"]) == (200, "77")
        gateway.write_models(
            {"pools": {"q": {"urls": ["http://x"], "api_key_env": "UNSET"}}, "models": {"m": {"pool": "q"}}}
        )
        await reload(gateway, "reload refused")
        answered = await gateway.chat()
        assert (answered.status_code, answered.headers["x-ratelimit-limit-requests"]) == (200, "77")
        old.go_on.set()
        async for piece in text:
            seen += piece
    assert seen.endswith("data: [DONE]\n\n")
    if reload is _hang_up:
        (first, second) = gateway.logged("reload refused")
        assert "'urls' or 'dns'" in first
        assert "UNSET" in second
    assert await gateway.stop() == 0
