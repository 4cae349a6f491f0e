"""The control plane (FastAPI): models, usage, administration, health, metrics, API documentation."""

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.routing import Match

from capstan.common.app import Lifespan, create_app
from capstan.common.errors import ApiError
from capstan.gateway.admin import create_admin, errors
from capstan.gateway.admin_models import OwnUsage, TenantLimits, report, usd
from capstan.gateway.api import APIS, Api
from capstan.gateway.auth import Authenticator, Principal
from capstan.gateway.ledger import Ledger
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.settings import GatewaySettings
from capstan.gateway.tenants import TenantStore

_CREATED = 1_767_225_600
"""OpenAI's model objects carry a creation time; a route has none, so it is the year of this API."""


class Models(Protocol):
    """What the control plane needs of the router."""

    @property
    def models(self) -> Mapping[str, object]:
        """Models by name."""
        ...

    def find(self, name: str) -> object:
        """Raises `Refusal` where there is no such model."""
        ...

    def status(self) -> dict[str, Any]:
        """The fields of a `PoolStatus` by name of the pool."""
        ...


class ModelCard(BaseModel):
    """A model as OpenAI's API describes it."""

    id: str
    object: Literal["model"] = "model"
    created: int = _CREATED
    owned_by: str = "capstan"


class ModelList(BaseModel):
    """Models as OpenAI's API lists them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def create_control(
    settings: GatewaySettings,
    *,
    registry: CollectorRegistry,
    authenticator: Authenticator,
    router: Models,
    tenants: TenantStore,
    ledger: Ledger,
    lifespan: Lifespan,
    busy: Callable[[], bool],
    reload: Callable[[], Awaitable[None]],
    drain: Callable[[], None],
    now: Callable[[], float] = time.time,
) -> FastAPI:
    """The application that serves everything but the model routes. `now` is Unix time in seconds."""
    app = create_app(
        "gateway",
        settings=settings,
        ready=lambda: "Redis, which holds the tenants" if tenants.stale else None,
        registry=registry,
        lifespan=lifespan,
        busy=busy,
        max_body_bytes=settings.max_body_bytes,
    )
    started = now()

    def status() -> dict[str, Any]:
        lifecycle = app.state.lifecycle
        uptime = round(now() - started, 3)
        return {"version": app.version, "uptime_s": uptime, "draining": lifecycle.draining, "pools": router.status()}

    admin_key = settings.admin_key
    app.include_router(_tenants_own(authenticator, router, ledger, now))
    app.include_router(
        create_admin(admin_key, tenants=tenants, ledger=ledger, reload=reload, drain=drain, status=status, now=now)
    )
    app.add_exception_handler(405, _method_not_allowed)
    _complete_description(app)
    return app


def _tenants_own(authenticator: Authenticator, router: Models, ledger: Ledger, now: Callable[[], float]) -> APIRouter:
    """What a tenant may ask for with its API key."""
    routes = APIRouter(prefix="/v1", responses=errors(401, 503))
    scheme = HTTPBearer(auto_error=False, scheme_name="API key", description="A tenant's key.")

    async def authenticate(request: Request, _: Annotated[object, Depends(scheme)]) -> Principal:
        return authenticator.authenticate(request.scope["headers"])

    Caller = Annotated[Principal, Depends(authenticate)]

    @routes.get("/models", tags=["models"])
    async def models(caller: Caller) -> ModelList:
        """The models that this key may use."""
        return ModelList(data=[ModelCard(id=name) for name in router.models if caller.may_use(name)])

    @routes.get("/models/{name:path}", tags=["models"], responses=errors(403, 404))
    async def model(name: str, caller: Caller) -> ModelCard:
        """One model."""
        router.find(name)
        if not caller.may_use(name):
            raise Refusal(Outcome.MODEL_NOT_ALLOWED, f"this key may not use the model {name!r}", param="model")
        return ModelCard(id=name)

    @routes.get("/usage", tags=["usage"])
    async def usage(caller: Caller) -> OwnUsage:
        """What the tenant used in this month (UTC), and what it may use."""
        today = datetime.fromtimestamp(now(), UTC).date()
        rows = await ledger.read(caller.tenant, today.replace(day=1), today)
        budget = caller.limits.monthly_budget_usd
        left = None if budget is None else max(0.0, round(budget - usd(sum(row.used.cost for row in rows)), 6))
        limits = TenantLimits.of(caller.limits)
        fields = report(rows, today.replace(day=1), today)
        return OwnUsage(tenant=caller.tenant, limits=limits, budget_left_usd=left, **fields)

    return routes


async def _method_not_allowed(request: Request, _: Exception) -> Response:
    """405 with all methods of the path (RFC 9110, 15.5.6): Starlette names those of one route only."""

    def has(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    allowed = ", ".join(filter(has, ("DELETE", "GET", "HEAD", "POST", "PUT")))
    error = ApiError(405, "method_not_allowed", f"this path takes {allowed}", headers={"allow": allowed})
    return JSONResponse(error.body(), error.status_code, error.headers)


def _complete_description(app: FastAPI) -> None:
    """Add the model routes to the OpenAPI document: they are served in front of FastAPI. Mistakes are 400, not 422."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for api in APIS.values():
            schema["paths"][api.path] = {"post": _operation(api)}
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _operation(api: Api) -> dict[str, Any]:
    properties: dict[str, Any] = {"model": {"type": "string"}, api.prompt: _PROMPTS[api.prompt]}
    if api.limits:
        properties["stream"] = {"type": "boolean", "default": False}
    properties |= {name: {"type": "integer", "minimum": 1} for name in api.limits}
    body = {
        "type": "object",
        "required": ["model", api.prompt],
        "properties": properties,
        "additionalProperties": True,
    }
    return {
        "tags": ["inference"],
        "operationId": api.path.strip("/").replace("/", "_"),
        "summary": f"{api.operation}; unknown fields go to the model's server as they are.",
        "security": [{"API key": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The model's answer" + (", or its events if `stream` is true." if api.limits else ".")
            },
            "default": {"description": "An error in the API's own shape; its `code` names the outcome."},
        },
    }


_ANY_OF_TEXT = {"anyOf": [{"type": "string"}, {"type": "array"}]}
_PROMPTS: dict[str, Any] = {
    "messages": {"type": "array", "items": {"type": "object"}},
    "documents": {"type": "array", "items": {}},
    "prompt": _ANY_OF_TEXT,
    "input": _ANY_OF_TEXT,
}
"""The schema of each route's prompt field."""
