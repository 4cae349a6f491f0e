"""Pure-ASGI middleware: request ids, the body limit, request metrics and the access log."""

import logging
import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capstan.common.context import REQUEST_ID_HEADER, accept_request_id, request_id
from capstan.common.errors import ApiError, error_body
from capstan.common.telemetry import exemplar

log = logging.getLogger("capstan.http")

_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


_INTERNAL_ERROR = JSONResponse(
    error_body("internal error; the log has it under this request id", "server_error", "internal_error"), 500
)


def too_large(limit: int) -> ApiError:
    """The error for a body past `limit` bytes."""
    return ApiError(413, "request_too_large", f"the request body is larger than {limit} bytes; send less or split it")


class BodyLimit:
    """Refuses a body past `max_bytes`, counted as it streams, whatever its Content-Length says."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise too_large(self._max_bytes)
            return message

        await self._app(scope, counted, send)


class Observe:
    """Gives every request an id, counts and times it, and logs its end."""

    def __init__(self, app: ASGIApp, service: str, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "capstan_http_requests_total",
            "Requests answered, by route and status.",
            ("service", "method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "capstan_http_request_seconds",
            "Time from a request's arrival to the last byte of its answer.",
            ("service", "route"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rid = accept_request_id(_header(scope, REQUEST_ID_HEADER))
        token = request_id.set(rid)
        started = time.perf_counter()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER.encode(), rid.encode())]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception:
            log.exception("unhandled error")
            if status:
                raise  # too late for an answer: the connection breaks
            await _INTERNAL_ERROR(scope, receive, observed)
        finally:
            self._record(scope, status, time.perf_counter() - started)
            request_id.reset(token)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._requests.labels(self._service, scope["method"], route, str(status)).inc()
        self._seconds.labels(self._service, route).observe(seconds, exemplar())
        if scope["path"] not in _QUIET_PATHS:
            fields = {"method": scope["method"], "path": scope["path"], "status": status, "ms": round(seconds * 1e3, 1)}
            log.info("request", extra=fields)


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.encode()
    for key, value in scope["headers"]:
        if key == wanted:
            return str(value.decode("latin-1"))
    return None
