"""Receives spans as a collector does: OTLP over HTTP, protobuf, on a free port of this machine.

`python tests/otlp_receiver.py` prints them, a line each.
"""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage


@dataclass(frozen=True, slots=True)
class Span:
    """One received span. Ids are hex; `kind` is `SERVER`, `CLIENT`, `INTERNAL`."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any] = field(hash=False)
    failed: bool = False


class Receiver:
    """The spans that have come so far."""

    def __init__(self, on_span: Callable[[Span], object] = lambda span: None) -> None:
        self._spans: list[Span] = []
        self._news = threading.Condition()
        self._on_span = on_span
        self.url = ""

    def take(self, body: bytes) -> None:
        """Add the spans of one request."""
        found = list(_spans(ExportTraceServiceRequest.FromString(body)))
        with self._news:
            self._spans += found
            self._news.notify_all()
        for span in found:
            self._on_span(span)

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace."""
        with self._news:
            return [span for span in self._spans if span.trace_id == trace_id]

    def wait_for(self, trace_id: str, complete: Callable[[list[Span]], bool], timeout_s: float = 30) -> list[Span]:
        """The spans of a trace once they are `complete`, or as many as have come in time."""
        with self._news:
            self._news.wait_for(lambda: complete(self.trace(trace_id)), timeout_s)
        return self.trace(trace_id)


@contextmanager
def otlp_receiver(on_span: Callable[[Span], object] = lambda span: None) -> Iterator[Receiver]:
    """A receiver that listens at `url`, which is what OTEL_EXPORTER_OTLP_ENDPOINT wants."""
    receiver = Receiver(on_span)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()
            if self.path == "/v1/traces":
                receiver.take(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_attributes(span.attributes),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


if __name__ == "__main__":
    with otlp_receiver(lambda span: print(span, flush=True)) as listening:  # noqa: T201
        print(listening.url, flush=True)  # noqa: T201
        threading.Event().wait()
