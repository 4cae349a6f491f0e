"""Tracing: OTLP over HTTP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, silent and free otherwise.

OpenTelemetry is imported only then, since it costs start-up time.
"""

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def tracing_enabled() -> bool:
    """Whether an OTLP endpoint is configured."""
    return bool(os.environ.get(ENDPOINT))


def setup_tracing(service: str, *, sampled_by_caller: bool = False) -> None:
    """Install the tracer provider that exports this service's spans. Does nothing without an endpoint.

    `sampled_by_caller`: the service draws `OTEL_TRACES_SAMPLER`'s decision itself, and starts spans only after a yes.
    """
    if not tracing_enabled():
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    sampler = ALWAYS_ON if sampled_by_caller else None
    provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": f"capstan-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def instrument(app: "FastAPI") -> None:
    """Give every route of `app` a server span. Does nothing without an endpoint."""
    if tracing_enabled():
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(app, excluded_urls="healthz,readyz,metrics")


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the W3C `traceparent` of the current span to outgoing headers."""
    if tracing_enabled():
        from opentelemetry.propagate import inject as otel_inject

        otel_inject(headers)


def current_trace_id() -> str:
    """The current trace id as 32 hex digits, or an empty string."""
    if not tracing_enabled():
        return ""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def flush() -> None:
    """Send what is still buffered; called last in a drain."""
    if tracing_enabled():
        from opentelemetry import trace

        shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
        if shutdown is not None:
            shutdown()
