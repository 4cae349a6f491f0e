"""Spans reach a collector, and the trace goes on upstream."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_upstream import FakeUpstream

from capstan.gateway.api import APIS
from capstan.gateway.exchange import Exchange
from capstan.gateway.record import Record
from capstan.gateway.tenants import add_key
from capstan.gateway.tracing import Tracing

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


TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


@pytest.mark.parametrize(
    ("parent", "drawn", "sampled"),
    [
        (None, 0.009, True),
        (None, 0.011, False),
        (TRACEPARENT + b"01", 0.5, True),  # the caller's decision counts, whatever is drawn
        (TRACEPARENT + b"00", 0.0, False),
        (b"garbage", 0.5, False),
    ],
)
def test_one_request_in_a_hundred_is_sampled_unless_its_caller_has_decided(
    monkeypatch: pytest.MonkeyPatch, parent: bytes | None, drawn: float, sampled: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.01")
    tracing = Tracing(draw=lambda: drawn)
    headers = {} if parent is None else {b"traceparent": parent}
    exchange = Exchange(_Wire(), APIS["/v1/chat/completions"], [], b"", 0.0)
    trace = tracing.begin(exchange, Record("req-1", 0.0), headers)
    assert (trace is not None) == sampled


def test_who_is_not_sampled_tells_so_upstream_and_passes_its_callers_trace_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    caller = {b"traceparent": TRACEPARENT + b"00", b"tracestate": b"a=b"}
    assert Tracing().outgoing(caller) == b"traceparent: %b\r\ntracestate: a=b\r\n" % caller[b"traceparent"]
    assert Tracing().outgoing({}) == b""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing = Tracing()
    lines = {tracing.outgoing({}) for _ in range(3)}
    assert len(lines) == 3
    assert all(re.fullmatch(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-00\r\n", line) for line in lines)


class _Wire:
    keep_alive = chunked = True

    def write(self, data: bytes) -> None:
        raise AssertionError("nothing is answered here")

    def date(self) -> bytes:
        return b""
