"""Fixtures of the control plane's tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from control.plane import Clock, Plane
from redis_server import RedisServer

from capstan.gateway.config import Tenant
from capstan.gateway.ledger import FileLedger
from capstan.gateway.tenants import FileTenants


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def plane(clock: Clock) -> AsyncIterator[Plane]:
    """A control plane with the tenant `acme`, in memory."""
    plane = Plane(FileTenants(None, {"acme": Tenant()}), FileLedger(None), clock)
    yield plane
    await plane.client.aclose()
