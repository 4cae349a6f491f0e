"""Spans reach a collector, and the trace goes on upstream."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_upstream import FakeUpstream

from capstan.gateway.tenants import add_key

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.received = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        assert scope["path"] == "/v1/traces"
        while True:
            message = await receive()
            self.received += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
async def test_a_request_becomes_a_span_of_the_clients_trace(
    serve: Any, tmp_path: Path, unused_tcp_port: int, identity_secret: str, path: str
) -> None:
    collector, upstream = Collector(), FakeUpstream()
    (tmp_path / "models.yaml").write_text(
        f"pools: {{p: {{urls: ['{await serve(upstream)}']}}}}\nmodels: {{m: {{pool: p}}}}\n"
    )
    key = add_key(tmp_path / "keys.yaml", "acme")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "CAPSTAN_IDENTITY_SECRET": identity_secret,
        "CAPSTAN_GATEWAY_PORT": str(unused_tcp_port),
        "CAPSTAN_GATEWAY_MODELS_FILE": str(tmp_path / "models.yaml"),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(tmp_path / "keys.yaml"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": await serve(collector),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "capstan.gateway", env=environment)
    headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}", trust_env=False) as client:
        await _until_up(client)
        if path == "/v1/models":
            response = await client.get(path, headers=headers)
        else:
            response = await client.post(path, json={"model": "m", "messages": []}, headers=headers)
    assert response.status_code == 200
    process.send_signal(signal.SIGTERM)  # the drain flushes what is buffered
    assert await process.wait() == 0
    assert bytes.fromhex(TRACE) in collector.received
    assert b"capstan-gateway" in collector.received
    if path != "/v1/models":
        assert b"chat m" in collector.received
        assert b"gen_ai.usage.output_tokens" in collector.received
        passed_on = upstream.requests[0]["headers"]["traceparent"].split("-")
        assert passed_on[1] == TRACE
        assert passed_on[2] != "b7ad6b7169203331"  # the gateway's own span is the parent now


async def _until_up(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get("/healthz")
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
