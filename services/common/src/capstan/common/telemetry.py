"""Tracing: OTLP over HTTP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, silent and free otherwise.

OpenTelemetry's SDK is imported only then, since it costs start-up time. Spans have its names for HTTP and few
attributes; what a user wrote or a document says is in none of them.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fastapi import FastAPI

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Span(Protocol):
    """What a block under a span may tell of itself."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Add a fact."""


class _NoSpan:
    def set_attribute(self, key: str, value: Any) -> None:
        pass


_NO_SPAN = _NoSpan()


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
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

    sampler = ParentBased(ALWAYS_ON) if sampled_by_caller else None
    provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": f"capstan-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def instrument(app: "FastAPI") -> None:
    """Give every route of `app` a server span. Does nothing without an endpoint."""
    if tracing_enabled():
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        # Without exclude_spans each piece of a stream is a span too.
        FastAPIInstrumentor.instrument_app(
            app, excluded_urls="healthz,readyz,metrics", exclude_spans=["receive", "send"]
        )


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Span]:
    """A span around a block of this service's own work, below the one that it runs in."""
    if not tracing_enabled():
        yield _NO_SPAN
        return
    with _entered(name, attributes) as current:
        yield current


@contextmanager
def server_span(name: str, headers: Mapping[str, str], **attributes: Any) -> Iterator[Span]:
    """A server span that continues the trace in a request's `headers`, for an application that is not FastAPI's."""
    if not tracing_enabled():
        yield _NO_SPAN
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    with _entered(name, attributes, context=extract(headers), kind=SpanKind.SERVER) as current:
        yield current


@contextmanager
def _entered(name: str, attributes: dict[str, Any], **place: Any) -> Iterator[Span]:
    """A current span. Of an exception only the type is told: its message may quote what a user wrote."""
    from opentelemetry import trace

    place |= {"record_exception": False, "set_status_on_exception": False}
    with trace.get_tracer("capstan").start_as_current_span(name, attributes=attributes, **place) as current:
        try:
            yield current
        except Exception as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(trace.StatusCode.ERROR)
            raise


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the W3C `traceparent` of the current span to outgoing headers."""
    if tracing_enabled():
        from opentelemetry.propagate import inject as otel_inject

        otel_inject(headers)


def current_ids() -> tuple[str, str]:
    """The current trace's and span's ids as 32 and 16 hex digits, or empty strings."""
    context = _current_context()
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context is not None else ("", "")


def exemplar() -> dict[str, str] | None:
    """For an observation of a histogram: the current trace, if it is one that will be found."""
    context = _current_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context is not None and context.trace_flags.sampled else None


def flush() -> None:
    """Send what is still buffered; called last in a drain."""
    if tracing_enabled():
        from opentelemetry import trace

        shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
        if shutdown is not None:
            shutdown()


def _current_context() -> Any:
    if not tracing_enabled():
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None
