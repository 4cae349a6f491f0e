"""The control plane (FastAPI): models, health, metrics, API documentation."""

from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry

from capstan.common.app import Lifespan, create_app
from capstan.gateway.auth import Authenticator
from capstan.gateway.endpoint import PATHS
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.routing import Router
from capstan.gateway.settings import GatewaySettings

_CREATED = 1_767_225_600
"""OpenAI's model objects carry a creation time; a route has none, so it is the year of this API."""


def create_control(
    settings: GatewaySettings,
    registry: CollectorRegistry,
    authenticator: Authenticator,
    router: Router,
    lifespan: Lifespan,
) -> FastAPI:
    """The application that serves everything but `PATHS`."""
    app = create_app(
        "gateway",
        settings=settings,
        ready=lambda: None,
        registry=registry,
        lifespan=lifespan,
        max_body_bytes=settings.max_body_bytes,
    )

    @app.get("/v1/models", tags=["models"])
    async def models(request: Request) -> dict[str, Any]:
        """The models that this key may use."""
        principal = authenticator.authenticate(request.scope["headers"])
        return {"object": "list", "data": [_model(name) for name in router.models if principal.may_use(name)]}

    @app.get("/v1/models/{name}", tags=["models"])
    async def model(name: str, request: Request) -> dict[str, Any]:
        """One model."""
        principal = authenticator.authenticate(request.scope["headers"])
        router.find(name)
        if not principal.may_use(name):
            raise Refusal(Outcome.MODEL_NOT_ALLOWED, f"this key may not use the model {name!r}", param="model")
        return _model(name)

    _document_hot_path(app)
    return app


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "capstan"}


def _document_hot_path(app: FastAPI) -> None:
    """Add `PATHS` to the OpenAPI document; they are served in front of FastAPI."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for path in sorted(PATHS):
            schema["paths"][path] = {"post": _operation(path)}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _operation(path: str) -> dict[str, Any]:
    prompt = "messages" if path.endswith("/chat/completions") else "prompt"
    body = {
        "type": "object",
        "required": ["model", prompt],
        "properties": {
            "model": {"type": "string"},
            prompt: {"type": "array", "items": {"type": "object"}} if prompt == "messages" else {"type": "string"},
            "stream": {"type": "boolean", "default": False},
            "max_tokens": {"type": "integer", "minimum": 1},
        },
        "additionalProperties": True,
    }
    return {
        "tags": ["inference"],
        "summary": "As OpenAI's API; unknown fields go to the model's server as they are.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "A completion, or its events when `stream` is true."},
            "default": {"description": "An OpenAI-shaped error; its `code` names the outcome."},
        },
    }
