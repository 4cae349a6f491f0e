"""The HTTP client for calls between services and from jobs. The gateway's hot path has its own."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2

from capstan.common.context import REQUEST_ID_HEADER, request_id
from capstan.common.telemetry import tracing_enabled


async def _add_request_id(request: httpx2.Request) -> None:
    if rid := request_id.get():
        request.headers.setdefault(REQUEST_ID_HEADER, rid)


def service_client(base_url: str, *, timeout_s: float = 30.0, connect_s: float = 2.0) -> httpx2.AsyncClient:
    """A client that carries the request id and the trace context along. Timeouts are in seconds."""
    limits = httpx2.Limits(max_connections=512, max_keepalive_connections=64)
    transport: httpx2.AsyncBaseTransport = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)
    return httpx2.AsyncClient(
        base_url=base_url,
        timeout=httpx2.Timeout(timeout_s, connect=connect_s),
        transport=_Traced(transport) if tracing_enabled() else transport,
        event_hooks={"request": [_add_request_id]},
        trust_env=False,
    )


class _Traced(httpx2.AsyncBaseTransport):
    """Gives each request a client span, from its start to the end of the answer's body, and passes the trace on.

    OpenTelemetry's own instrumentation is for httpx, by that name.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        from opentelemetry import trace

        self._transport = transport
        self._trace: Any = trace
        self._tracer = trace.get_tracer("capstan.http")

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """httpx2: send a request."""
        from opentelemetry.propagate import inject

        url = request.url
        span = self._tracer.start_span(
            f"{request.method} {url.path}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={
                "http.request.method": request.method,
                "url.path": url.path,
                "server.address": url.host,
                "server.port": url.port or (443 if url.scheme == "https" else 80),
            },
        )
        inject(request.headers, self._trace.set_span_in_context(span))
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException as error:  # a cancelled call ends as well
            self._fail(span, type(error).__name__)
            span.end()
            raise
        span.set_attribute("http.response.status_code", response.status_code)
        if response.status_code >= 400:
            self._fail(span, str(response.status_code))
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(response.stream, span)
        return response

    async def aclose(self) -> None:
        """httpx2: close the connections."""
        await self._transport.aclose()

    def _fail(self, span: Any, kind: str) -> None:
        span.set_attribute("error.type", kind)
        span.set_status(self._trace.StatusCode.ERROR)


class _Counted(httpx2.AsyncByteStream):
    """An answer's body that ends a span when it is closed."""

    def __init__(self, stream: httpx2.AsyncByteStream, span: Any) -> None:
        self._stream = stream
        self._span = span

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        """httpx2: the body is read, or not wanted any more."""
        try:
            await self._stream.aclose()
        finally:
            self._span.end()
