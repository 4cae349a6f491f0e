"""A clock that the test turns, and the control plane without a gateway around it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from capstan.common.identity import Signer
from capstan.gateway.auth import Authenticator
from capstan.gateway.config import ConfigError
from capstan.gateway.control import create_control
from capstan.gateway.ledger import Ledger
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.settings import GatewaySettings
from capstan.gateway.tenants import TenantStore

ADMIN_KEY = "admin-key-of-at-least-32-characters"
TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = TODAY.timestamp()

    def __call__(self) -> float:
        return self.now


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the background; the test's timeout ends it."""
    while not condition():
        await asyncio.sleep(0.005)


class FakeRouter:
    """The models `m` and `org/other`, one pool."""

    def __init__(self) -> None:
        self.models = {"m": None, "org/other": None}

    def find(self, name: str) -> None:
        if name not in self.models:
            raise Refusal(Outcome.MODEL_NOT_FOUND, f"the model {name!r} does not exist", param="model")

    def status(self) -> dict[str, Any]:
        upstream = {"url": "http://w", "health": "up", "running": 3, "outstanding_tokens": 700, "adapters": []}
        return {"p": {"limit": 32.0, "running": 3, "queued": 0, "upstreams": [upstream]}}


class Plane:
    """The control plane and what it was told."""

    def __init__(self, tenants: TenantStore, ledger: Ledger, clock: Clock, admin_key: str | None = ADMIN_KEY) -> None:
        self.tenants = tenants
        self.ledger = ledger
        self.clock = clock
        self.drained = 0
        self.mistake = ""
        values = {"identity_secret": "s" * 32, "models_file": "unread", "admin_key": admin_key}
        self.authenticator = Authenticator(Signer("s" * 32), tenants, clock)
        self.app: FastAPI = create_control(
            GatewaySettings.model_validate(values),
            registry=CollectorRegistry(),
            authenticator=self.authenticator,
            router=FakeRouter(),
            tenants=tenants,
            ledger=ledger,
            lifespan=_nothing,
            busy=lambda: False,
            reload=self._reload,
            drain=self._drain,
            now=clock,
        )
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        transport = httpx2.ASGITransport(app=self.app)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Ask the admin API."""
        return await self.client.request(method, f"/admin/v1{path}", json=body, **options)

    async def as_tenant(self, key: str, path: str) -> httpx2.Response:
        """Ask with a tenant's key."""
        return await self.client.get(path, headers={"authorization": f"Bearer {key}"})

    async def new_key(self, tenant: str = "acme", **wanted: Any) -> str:
        """A new key of a tenant."""
        response = await self.ask("POST", f"/tenants/{tenant}/keys", wanted or None)
        assert response.status_code == 201, response.text
        return str(response.json()["key"])

    async def _reload(self) -> None:
        if self.mistake:
            raise ConfigError(self.mistake)

    def _drain(self) -> None:
        self.drained += 1


@asynccontextmanager
async def _nothing(_: FastAPI) -> AsyncIterator[None]:
    yield
