"""A clock that the test turns, a real Redis, and a line to it that can be cut."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis_server import DURABLE, RedisServer

from capstan.gateway.config import Tenant
from capstan.gateway.quota import MemoryQuota, Quota
from capstan.gateway.quota_redis import RedisQuota


class Clock:
    """Seconds, and the wall clock that goes with them."""

    def __init__(self, wall: float = 1_795_000_000.0) -> None:
        self.now = 1000.0
        self._wall = wall - self.now

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return self._wall + self.now


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis that nobody kills. Tests use tenants of their own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), *DURABLE)
    yield server
    server.kill()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start a Redis of one's own: `start_redis("--requirepass", "x")`."""
    servers: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        servers.append(RedisServer(tmp_path, *DURABLE, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def own_redis(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that the test may kill."""
    return start_redis()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Connect = Callable[..., Awaitable[RedisQuota]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Start a RedisQuota: `quota = await connect(url, clock=…, registry=…)`."""
    quotas: list[RedisQuota] = []

    async def connect_(url: str, **options: Any) -> RedisQuota:
        settings: dict[str, Any] = {"timeout_s": 5.0, "replicas": 1, "registry": CollectorRegistry(), **options}
        quota = RedisQuota(url, **settings)
        quotas.append(quota)
        await quota.start()
        return quota

    yield connect_
    for quota in quotas:
        await quota.close()


@pytest.fixture(params=["memory", "redis"])
async def quota(request: pytest.FixtureRequest, clock: Clock, connect: Connect) -> Quota:
    """Each store, on the test's clock."""
    if request.param == "memory":
        return MemoryQuota(clock, clock.wall)
    url = request.getfixturevalue("redis").url
    return await connect(url, now=clock, clock=clock, wall=clock.wall)


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """A tenant of the test's own."""
    return f"t{abs(hash(request.node.nodeid))}"


@pytest.fixture
def limits() -> Callable[..., Tenant]:
    def make(**changes: Any) -> Tenant:
        return Tenant.model_validate({"requests_per_minute": 60, "tokens_per_minute": 6000, **changes})

    return make


class Line:
    """A TCP line to Redis that loses answers, holds requests back, or is cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._near: list[asyncio.StreamWriter] = []
        self._far: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        """The connections to Redis, each with the task that ends when Redis has ended it."""
        self._requesting: list[asyncio.Task[None]] = []
        self.swallow = False
        """Whether answers get lost."""
        self.swallowed = asyncio.Event()
        self.hold = False
        """Whether requests are held back."""
        self.held: list[tuple[asyncio.StreamWriter, bytes]] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._port)
        self._near.append(near)
        self._far[far] = asyncio.create_task(self._answers(far_reader, near))
        self._requesting.append(asyncio.create_task(self._requests(near_reader, far)))

    async def _requests(self, near: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await near.read(65536):
                if self.hold:
                    self.held.append((far, data))
                else:
                    far.write(data)

    async def _answers(self, far: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await far.read(65536):
                if self.swallow:
                    self.swallowed.set()
                else:
                    near.write(data)

    def cut(self) -> None:
        """End the client's connections; those to Redis stay. New ones work."""
        self.swallow = self.hold = False
        for writer in self._near:
            writer.close()
        self._near.clear()

    async def release(self) -> None:
        """Let through what was held back, and wait until Redis has dealt with it."""
        for far, data in self.held:
            with suppress(OSError):
                far.write(data)
                far.write_eof()
            await self._far[far]

    async def close(self) -> None:
        self.cut()
        for writer in self._far:
            writer.close()
        self._server.close()
        await asyncio.gather(*self._requesting, *self._far.values())


@pytest.fixture
async def line(redis: RedisServer) -> AsyncIterator[Line]:
    made = Line(redis.port)
    yield made
    await made.close()


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for other processes: `await until(lambda: condition)`, which may be asynchronous."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while True:
                holds = condition()
                if asyncio.iscoroutine(holds):
                    holds = await holds
                if holds:
                    return
                await asyncio.sleep(0.005)

    return wait
