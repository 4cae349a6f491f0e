"""Pools over upstreams that a test scripts, in time that a test makes pass."""

from collections.abc import Callable
from typing import Any

import pytest

from capstan.gateway.config import ModelsFile
from capstan.gateway.pool import PoolState
from capstan.gateway.routing import Router
from capstan.gateway.upstream_connection import Unreachable

MakeRouter = Callable[..., Router]
MakePool = Callable[..., PoolState]


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class ScriptedUpstream:
    """Stands for `Upstream`: answers `fetch` from a table, an exception there is raised."""

    def __init__(self, url: str, *, api_key: str = "", address: str = "") -> None:
        self.url = url.rstrip("/")
        self.api_key = api_key
        self.address = address
        self.answers: dict[bytes, tuple[int, bytes] | Exception] = {b"/health": (200, b""), b"/readyz": (200, b"")}
        self.fetched: list[bytes] = []
        self.closed = 0

    async def fetch(self, method: bytes, path: bytes, headers: bytes, body: bytes, timeout_s: float) -> Any:
        self.fetched.append(path)
        answer = self.answers.get(path, (404, b""))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def die(self) -> None:
        self.answers = dict.fromkeys(self.answers, Unreachable("connection refused"))

    def live(self) -> None:
        self.answers = dict.fromkeys(self.answers, (200, b""))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_router(clock: Clock) -> MakeRouter:
    """`make_router(pools={…}, models={…}, resolve=…, environ=…)`."""

    def make(pools: dict[str, Any], models: dict[str, Any] | None = None, **options: Any) -> Router:
        named = models or {"m": {"pool": next(iter(pools))}}
        config = ModelsFile.model_validate({"pools": pools, "models": named})
        return Router(config, connect=ScriptedUpstream, now=clock, **options)

    return make


@pytest.fixture
def make_pool(make_router: MakeRouter) -> MakePool:
    """A pool of so many members: `make_pool(3, breaker_failures=2)`."""

    def make(members: int, **pool: Any) -> PoolState:
        urls = [f"http://w{i}:8000" for i in range(members)]
        return make_router({"p": {"urls": urls, **pool}}).pools["p"]

    return make
