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

    def __init__(self, url: str, upstream: FakeUpstream, client: httpx2.AsyncClient) -> None:
        self.url = url
        self.upstream = upstream
        self.client = client

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
    """Start a gateway: `setup = await gateway(pool={…}, tenant={…}, internal={…}, urls=[…])`."""
    clients: list[httpx2.AsyncClient] = []

    async def start(
        *,
        pool: dict[str, Any] | None = None,
        tenant: dict[str, Any] | None = None,
        urls: list[str] | None = None,
        **settings: Any,
    ) -> Setup:
        upstream = FakeUpstream()
        pools = {"p": {"urls": urls or [await serve(upstream)], **(pool or {})}}
        models = ModelsFile.model_validate({"pools": pools, "models": {"m": {"pool": "p"}, "other": {"pool": "p"}}})
        keys = KeysFile.model_validate({"tenants": {"acme": {"keys": [STORED.model_dump()], **(tenant or {})}}})
        unread = Path("unread")
        config = GatewaySettings(identity_secret=identity_secret, models_file=unread, keys_file=unread, **settings)
        url = await serve(Gateway(config, models, keys))
        client = httpx2.AsyncClient(base_url=url, trust_env=False, timeout=10)
        clients.append(client)
        return Setup(url, upstream, client)

    yield start
    for client in clients:
        await client.aclose()


@pytest.fixture
def auth() -> dict[str, str]:
    """Headers with a valid key."""
    return AUTH
