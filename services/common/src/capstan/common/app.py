"""The frame of a service: health, metrics, ids, errors and limits around its own routes."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException

from capstan.common import telemetry
from capstan.common.disconnect import ClientGone
from capstan.common.errors import ApiError, from_http_exception
from capstan.common.health import Lifecycle, Ready
from capstan.common.identity import IDENTITY_HEADER, Identity, InvalidIdentity, Signer
from capstan.common.middleware import BodyLimit, Observe
from capstan.common.settings import ServiceSettings

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    service: str,
    *,
    settings: ServiceSettings,
    ready: Ready,
    registry: CollectorRegistry,
    lifespan: Lifespan | None = None,
    busy: Callable[[], bool] = lambda: False,
    max_body_bytes: int = 4 * 1024 * 1024,
) -> FastAPI:
    """A FastAPI application with everything that is the same in each service.

    `ready` returns None or what the service waits for; `busy` tells a drain whether requests run that it must wait for
    before the port closes; `registry` holds the service's metrics.
    """
    app = FastAPI(
        title=f"Capstan {service}",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages run scripts from elsewhere, on the origin where our page keeps the API key
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # see capstan.common.telemetry
    )
    app.state.lifecycle = Lifecycle(ready, busy)
    app.state.signer = Signer(settings.identity_secret.get_secret_value())
    # They are a series more for each counter and histogram, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    _add_operations(app, registry)
    _add_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.add_middleware(Observe, service=service, registry=registry)
    telemetry.instrument(app)
    return app


async def require_identity(request: Request) -> Identity:
    """FastAPI dependency: the signed identity of the request, or 401."""
    signer: Signer = request.app.state.signer
    try:
        return signer.verify(request.headers.get(IDENTITY_HEADER))
    except InvalidIdentity as error:
        raise ApiError(401, "invalid_identity", str(error)) from None


def _add_operations(app: FastAPI, registry: CollectorRegistry) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz() -> JSONResponse:
        """The service can do its work; 503 says what it waits for."""
        waiting_for = app.state.lifecycle.waiting_for()
        if waiting_for is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "waiting_for": waiting_for}, status_code=503)

    @app.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics(request: Request) -> Response:
        """Prometheus metrics; as OpenMetrics, with exemplars, where the scraper takes that."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=media_type)


def _add_error_handlers(app: FastAPI) -> None:
    def respond(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status_code, headers=error.headers)

    async def on_http(_: Request, error: Any) -> JSONResponse:
        return respond(from_http_exception(error))

    async def on_invalid(_: Request, error: Any) -> JSONResponse:
        return respond(_validation_error(error))

    async def on_gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the log and the metrics do

    app.add_exception_handler(ClientGone, on_gone)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)


def _validation_error(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return ApiError(400, "invalid_json", f"the request body is not valid JSON: {first['ctx']['error']}")
    param = ".".join(path) or None
    return ApiError(400, "invalid_request", f"{param or 'body'}: {first['msg']}", param=param)
