"""A gateway over real sockets, in front of small upstream applications."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_upstream import FakeUpstream

from capstan.gateway.app import Gateway
from capstan.gateway.auth import new_key
from capstan.gateway.config import KeysFile, ModelsFile
from capstan.gateway.settings import GatewaySettings

KEY, STORED = new_key("acme-1")
AUTH = {"authorization": f"Bearer {KEY}"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


class Setup:
    """What a test needs of a running gateway."""

    def __init__(self, gateway: Gateway, url: str, upstream: FakeUpstream, client: httpx2.AsyncClient) -> None:
        self.gateway = gateway
        self.url = url
        self.upstream = upstream
        self.client = client
        self.log: list[bytes] = []

    async def chat(self, headers: dict[str, str] | None = None, **extra: Any) -> httpx2.Response:
        """POST a chat completion."""
        return await self.client.post("/v1/chat/completions", json={**CHAT, **extra}, headers=headers or AUTH)

    async def metric(self, start: str) -> float:
        """The value of the sample whose line begins with `start`; 0 where there is none."""
        text = (await self.client.get("/metrics")).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))


StartGateway = Callable[..., Awaitable[Setup]]


@pytest.fixture
async def gateway(serve: Any, identity_secret: str) -> AsyncIterator[StartGateway]:
    """Start a gateway: `setup = await gateway(pool={…}, tenant={…}, models={…}, urls=[…])`."""
    clients: list[httpx2.AsyncClient] = []

    async def start(
        *,
        pool: dict[str, Any] | None = None,
        tenant: dict[str, Any] | None = None,
        urls: list[str] | None = None,
        models: dict[str, Any] | None = None,
        pools: dict[str, Any] | None = None,
        mounts: list[dict[str, Any]] | None = None,
        **settings: Any,
    ) -> Setup:
        upstream = FakeUpstream()
        first = {"urls": urls or [await serve(upstream)], **(pool or {})}
        names = models or {"m": {"pool": "p"}, "other": {"pool": "p"}}
        file = ModelsFile.model_validate(
            {"pools": {"p": first, **(pools or {})}, "models": names, "mounts": mounts or []}
        )
        keys = KeysFile.model_validate({"tenants": {"acme": {"keys": [STORED.model_dump()], **(tenant or {})}}})
        config = GatewaySettings(identity_secret=identity_secret, models_file=Path("unread"), **settings)
        lines: list[bytes] = []
        gateway = Gateway(config, file, keys, lines.append)
        url = await serve(gateway.control, http=gateway.edge.protocol)
        client = httpx2.AsyncClient(base_url=url, trust_env=False, timeout=10)
        clients.append(client)
        setup = Setup(gateway, url, upstream, client)
        setup.log = lines
        return setup

    yield start
    for client in clients:
        await client.aclose()


@pytest.fixture
def auth() -> dict[str, str]:
    """Headers with a valid key."""
    return AUTH
