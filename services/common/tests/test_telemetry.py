"""Spans of calls between services, in a process of its own: OpenTelemetry's provider is set once."""

import os
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import asyncio, json
import httpx2
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from capstan.common import http, telemetry

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

class Body(httpx2.AsyncByteStream):
    async def __aiter__(self):
        yield b"piece"
        print("open while it is read:", [span.name for span in exporter.get_finished_spans()])
        yield b"piece"

class Fake(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request):
        print("passed on:", request.headers["traceparent"][:3])
        if request.url.path == "/down":
            raise httpx2.ConnectError("secret address")
        return httpx2.Response(503 if request.url.path == "/busy" else 200, stream=Body())

http.httpx2.AsyncHTTPTransport = lambda **_: Fake()

async def main():
    async with http.service_client("http://other:81") as client:
        with telemetry.span("work", number=3):
            for path in ("/good?q=secret", "/busy", "/down"):
                try:
                    await client.get(path)
                except httpx2.ConnectError:
                    pass
        try:
            with telemetry.span("failing"):
                raise ValueError("secret text")
        except ValueError:
            pass

asyncio.run(main())
for span in exporter.get_finished_spans():
    kept = {k: v for k, v in span.attributes.items() if k in ("error.type", "http.response.status_code", "number")}
    parent = "work" if span.parent else "-"
    print(span.kind.name, span.name, parent, span.status.status_code.name, json.dumps(kept), len(span.events))
    assert "secret" not in span.to_json()
"""


def run(**environment: str) -> list[str]:
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, env=base | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_call_is_a_client_span_until_its_body_is_read_and_failures_are_seen_without_their_text() -> None:
    lines = run(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert lines[:2] == ["passed on: 00-", "open while it is read: []"]
    assert lines[-5:] == [
        'CLIENT GET /good work UNSET {"http.response.status_code": 200} 0',
        'CLIENT GET /busy work ERROR {"http.response.status_code": 503, "error.type": "503"} 0',
        'CLIENT GET /down work ERROR {"error.type": "ConnectError"} 0',
        'INTERNAL work - UNSET {"number": 3} 0',
        'INTERNAL failing - ERROR {"error.type": "ValueError"} 0',
    ]


def test_without_an_endpoint_opentelemetry_stays_unloaded_but_for_what_fastapi_loads() -> None:
    program = "import sys; from capstan.common import app, http, logs, middleware, telemetry; "
    program += "telemetry.setup_tracing('x'); http.service_client('http://x'); logs.configure_logging('x'); "
    program += "[telemetry.exemplar(), telemetry.current_ids()]; "
    program += "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', "
    program += "'opentelemetry.exporter', 'opentelemetry.instrumentation'))])"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("sampled", ["00", "01"])
def test_a_callers_decision_holds_for_every_route_of_the_gateway(sampled: str) -> None:
    """Its control plane and mounts are FastAPI's, behind a sampler that otherwise takes everything."""
    program = """
        from capstan.common import telemetry
        telemetry.setup_tracing("x", sampled_by_caller=True)
        parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-SAMPLED"}
        with telemetry.server_span("request", parent):
            print(telemetry.exemplar())
    """
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    base["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    command = [sys.executable, "-c", textwrap.dedent(program).replace("SAMPLED", sampled)]
    done = subprocess.run(command, env=base, capture_output=True, text=True)
    expected = "None" if sampled == "00" else "{'trace_id': '0af7651916cd43dd8448eb211c80319c'}"
    assert done.stdout.strip() == expected, done.stderr
