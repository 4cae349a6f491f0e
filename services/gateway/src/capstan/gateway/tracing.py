"""The server span of a model request, with OpenTelemetry's names for generative AI. Free without an endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from capstan.common.disconnect import ClientGone
from capstan.common.telemetry import tracing_enabled
from capstan.gateway.metering import Record
from capstan.gateway.outcome import Outcome, Refusal


@contextmanager
def request_span(scope: Scope, record: Record) -> Iterator[None]:
    """A span around one request; its context replaces the client's `traceparent` on the way upstream."""
    if not tracing_enabled():
        yield
        return
    from opentelemetry import propagate, trace

    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    tracer = trace.get_tracer("capstan.gateway")
    operation = "chat" if scope["path"].endswith("/chat/completions") else "text_completion"
    attributes: dict[str, str | bool] = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": record.model,
        "gen_ai.request.stream": record.stream,
        "capstan.tenant": record.tenant,
        "capstan.request_id": record.request_id,
    }
    context = propagate.extract(carrier)
    with tracer.start_as_current_span(
        f"{operation} {record.model}", context=context, kind=trace.SpanKind.SERVER, attributes=attributes
    ) as span:
        outgoing: dict[str, str] = {}
        propagate.inject(outgoing)
        others = [pair for pair in scope["headers"] if pair[0] not in (b"traceparent", b"tracestate")]
        scope["headers"] = others + [(k.encode(), v.encode()) for k, v in outgoing.items()]
        try:
            yield
        except Refusal as refusal:
            record.outcome = refusal.outcome
            raise
        except ClientGone:
            record.outcome = Outcome.CLIENT_CLOSED
            raise
        finally:
            span.set_attribute("capstan.outcome", record.outcome.value)
            if record.usage:
                span.set_attribute("gen_ai.usage.input_tokens", record.usage.prompt)
                span.set_attribute("gen_ai.usage.output_tokens", record.usage.completion)
