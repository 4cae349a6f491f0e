"""10,000 clients that are connected and say nothing."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_upstream import FakeUpstream
from faults.rest import until

CONNECTIONS = 10_000
_FILES = CONNECTIONS + 500


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough open files, for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        pytest.skip(f"needs {_FILES} open files, the hard limit here is {hard}")
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _resident(pid: int) -> int:
    """Bytes of memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def test_they_cost_little_and_nobody_is_kept_waiting(process: Any, serve: Any, many_files: None) -> None:
    models = {"pools": {"p": {"urls": [await serve(FakeUpstream())]}}, "models": {"m": {"pool": "p"}}}
    gateway = await process(models, KEEP_ALIVE_S="30")
    assert (await gateway.chat()).status_code == 200
    before = _resident(gateway.pid)
    loop = asyncio.get_running_loop()
    port = gateway.client.base_url.port
    transports: list[asyncio.BaseTransport] = []
    while len(transports) < CONNECTIONS:
        made = (loop.create_connection(asyncio.Protocol, "127.0.0.1", port) for _ in range(500))
        transports += [transport for transport, _ in await asyncio.gather(*made)]
    await until(lambda: _open(gateway, CONNECTIONS))
    assert (_resident(gateway.pid) - before) / CONNECTIONS < 10_000  # bytes a connection
    assert (await gateway.chat()).status_code == 200
    for transport in transports:
        transport.abort()
    await until(lambda: _open(gateway, 0))
    assert (await gateway.chat()).status_code == 200
    assert await gateway.stop() == 0


async def _open(gateway: Any, count: int) -> bool:
    """Whether so many are open besides the test's own few."""
    text = (await gateway.client.get("/metrics")).text
    value = next(
        float(line.split()[1]) for line in text.splitlines() if line.startswith("capstan_gateway_connections ")
    )
    return count <= value <= count + 10
