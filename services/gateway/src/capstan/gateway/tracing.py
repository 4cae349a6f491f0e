"""Spans of a model request, with OpenTelemetry's names for generative AI. Free without an endpoint.

The gateway draws the sampling decision itself, before anything of OpenTelemetry is touched, so that a request that is
not sampled costs a random number. A caller's own decision (`traceparent`) is kept.
"""

import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from capstan.common.telemetry import tracing_enabled
from capstan.gateway.exchange import Exchange
from capstan.gateway.outcome import Outcome

if TYPE_CHECKING:
    from capstan.gateway.record import Record

_RATIOS = {"always_on": 1.0, "parentbased_always_on": 1.0, "always_off": 0.0, "parentbased_always_off": 0.0}


def sampling_ratio() -> float:
    """The part of requests without a caller's decision that is traced: `OTEL_TRACES_SAMPLER` and its argument."""
    name = os.environ.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    return _RATIOS.get(name, 1.0) if name in _RATIOS else float(os.environ.get("OTEL_TRACES_SAMPLER_ARG") or 1.0)


class Tracing:
    """Starts the trace of a request, or passes the caller's on."""

    def __init__(self, ratio: float | None = None, draw: Callable[[], float] = random.random) -> None:
        self._enabled = tracing_enabled()
        self._ratio = (sampling_ratio() if self._enabled else 0.0) if ratio is None else ratio
        self._draw = draw
        self._prefix = secrets.token_hex(8).encode()
        self._serial = 0

    def begin(self, exchange: Exchange, record: "Record", headers: Mapping[bytes, bytes]) -> "Trace | None":
        """The request's trace, if it is sampled."""
        if not self._enabled:
            return None
        parent = headers.get(b"traceparent", b"")
        sampled = parent[-2:] in (b"01", b"03") if len(parent) == 55 else self._draw() < self._ratio
        if not sampled:
            return None
        trace = Trace(exchange, parent, headers.get(b"tracestate", b""))
        record.trace_id, record.span_id = trace.trace_id, trace.span_id
        return trace

    def outgoing(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Header lines for the upstream of a request that is not traced here: the caller's trace, or none."""
        parent = headers.get(b"traceparent")
        if parent is not None:
            lines = b"traceparent: %b\r\n" % parent
            state = headers.get(b"tracestate")
            return lines + b"tracestate: %b\r\n" % state if state is not None else lines
        if self._enabled:  # "not sampled" is a decision too, and whoever comes next should keep it
            self._serial += 1
            return b"traceparent: 00-%b%016x-%016x-00\r\n" % (self._prefix, self._serial, self._serial)
        return b""


class Trace:
    """One traced request: a server span, the wait for admission, and a client span for each try at an upstream."""

    def __init__(self, exchange: Exchange, parent: bytes, state: bytes) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace: Any = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("capstan.gateway")
        self._offset_ns = time.time_ns() - int(time.monotonic() * 1e9)
        self._operation = exchange.api.operation
        carrier = {"traceparent": parent.decode("latin-1"), "tracestate": state.decode("latin-1")} if parent else {}
        self._span = self._tracer.start_span(
            self._operation,
            context=self._propagator.extract(carrier),
            kind=trace.SpanKind.SERVER,
            start_time=self._ns(exchange.arrived),
        )
        self._context = trace.set_span_in_context(self._span)
        self._upstream: Any = None
        context = self._span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.span_id = f"{context.span_id:016x}"

    def sent(self, record: "Record", address: str) -> bytes:
        """A try at an upstream begins; the header lines that carry the trace there."""
        self._end_upstream(record, record.sent)
        self._upstream = self._tracer.start_span(
            f"{self._operation} {record.served}",
            context=self._context,
            kind=self._trace.SpanKind.CLIENT,
            attributes={**self._common(record), "gen_ai.request.model": record.served, "server.address": address},
            start_time=self._ns(record.sent),
        )
        outgoing: dict[str, str] = {}
        self._propagator.inject(outgoing, self._trace.set_span_in_context(self._upstream))
        return b"".join(f"{name}: {value}\r\n".encode() for name, value in outgoing.items())

    def finish(self, record: "Record", ended: float) -> None:
        """The request has ended."""
        self._end_upstream(record, ended)
        if record.queued_s:
            began = record.admitted - record.queued_s
            queue = self._tracer.start_span("admission queue", context=self._context, start_time=self._ns(began))
            queue.end(self._ns(record.admitted))
        span = self._span
        span.update_name(f"{self._operation} {record.model}")
        span.set_attributes({**self._common(record), "gen_ai.request.model": record.model})
        span.set_attribute("capstan.outcome", record.outcome.value)
        if record.status:
            span.set_attribute("http.response.status_code", record.status)
        self._note_end(span, record)
        span.end(self._ns(ended))

    def _common(self, record: "Record") -> dict[str, str | bool]:
        return {
            "gen_ai.operation.name": self._operation,
            "gen_ai.provider.name": "capstan",
            "gen_ai.request.stream": record.stream,
            "capstan.tenant": record.tenant,
            "capstan.request_id": record.request_id,
        }

    def _note_end(self, span: Any, record: "Record") -> None:
        if record.first_byte and not record.whole:
            span.set_attribute("gen_ai.response.time_to_first_chunk", record.first_byte - record.started)
        if record.usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", record.usage.prompt)
            span.set_attribute("gen_ai.usage.output_tokens", record.usage.completion)
            span.set_attribute("gen_ai.usage.cache_read.input_tokens", record.usage.cached)
        if record.outcome is not Outcome.COMPLETED:
            span.set_attribute("error.type", record.outcome.value)
            span.set_status(self._trace.StatusCode.ERROR)

    def _end_upstream(self, record: "Record", at: float) -> None:
        if self._upstream is not None:
            self._note_end(self._upstream, record)
            self._upstream.end(self._ns(at))
            self._upstream = None

    def _ns(self, seconds: float) -> int:
        return int(seconds * 1e9) + self._offset_ns
