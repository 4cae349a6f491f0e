"""Gateways that are checked for leaks after every test, and upstreams and clients that misbehave."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.process import GatewayProcess
from faults.raw_upstream import Behaviour, RawUpstream
from faults.rest import Book, check_at_rest
from faults.wire import WireClient
from redis_server import DURABLE, RedisServer


@pytest.fixture
async def gateway(gateway: Any) -> AsyncIterator[Any]:
    """The gateway of the other tests. After the test nothing may run or be held, and all must be settled once."""
    running: list[tuple[Any, Book]] = []

    async def start(**options: Any) -> Any:
        setup = await gateway(**options)
        setup.book = Book(setup.gateway)
        running.append((setup, setup.book))
        return setup

    yield start
    for setup, book in running:
        await check_at_rest(setup, book)


@pytest.fixture
async def raw() -> AsyncIterator[Callable[..., Awaitable[RawUpstream]]]:
    """Start an upstream of bytes: `upstream = await raw(die)`; its address is `upstream.url`."""
    running: list[RawUpstream] = []

    async def start(behave: Behaviour, host: str = "127.0.0.1", port: int = 0) -> RawUpstream:
        upstream = RawUpstream(behave)
        upstream.url = await upstream.start(host, port)
        running.append(upstream)
        return upstream

    yield start
    for upstream in running:
        upstream.stop()


@pytest.fixture
async def connect(gateway: Any) -> AsyncIterator[Callable[[str], Awaitable[WireClient]]]:
    """Connect to a gateway: `client = await connect(setup.url)`. They leave before the gateway is checked."""
    clients: list[WireClient] = []

    async def start(url: str) -> WireClient:
        clients.append(await WireClient.connect(url))
        return clients[-1]

    yield start
    for client in clients:
        client.leave()


@pytest.fixture
async def process(tmp_path: Path, identity_secret: str) -> AsyncIterator[Callable[..., Awaitable[GatewayProcess]]]:
    """Start a gateway process: `gateway = await process(models, DRAIN_DELAY_S="1")`."""
    running: list[GatewayProcess] = []

    async def start(models: dict[str, Any], **settings: str) -> GatewayProcess:
        running.append(GatewayProcess(tmp_path, identity_secret, models, **settings))
        await running[-1].start()
        return running[-1]

    yield start
    for gateway in running:
        await gateway.client.aclose()
        await gateway.kill()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill; its data survive."""
    server = RedisServer(tmp_path, *DURABLE)
    yield server
    server.kill()
