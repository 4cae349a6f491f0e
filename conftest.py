"""Fixtures for every test of the repository."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn
import uvloop
from running_stack import RunningStack
from xdist.scheduler import LoadScopeScheduling

SECRET = "test-secret-of-at-least-32-characters"
Serve = Callable[..., Awaitable[str]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the services run on."""
    return {"uvloop": uvloop.new_event_loop}


class _ByPlace(LoadScopeScheduling):  # type: ignore[misc]
    """Shares the tests among processes (`make test`) so that each heavy part is started by one of them."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.startswith(("tests/compose/", "tests/helm/")):
            return "docker"
        return "stack" if path.startswith("tests/") or path in _ON_THE_STACK else path


_ON_THE_STACK = ("services/vllm-worker/tests/test_contract.py",)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """xdist asks how to share; the largest share begins first."""
    return _ByPlace(config, log)


@pytest.fixture
def identity_secret() -> str:
    """The signing secret that tests share."""
    return SECRET


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve an ASGI app on a free port of this machine: `url = await serve(app)`; `http`: uvicorn's protocol class."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(app: Any, http: Any = "httptools") -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=http, log_config=None, ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        running.append((server, task))
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, task in reversed(running):
        server.should_exit = True
        await task


SLOW = {"CAPSTAN_WORKER_SIM_TTFT_MS": "20", "CAPSTAN_WORKER_SIM_TPOT_MS": "40"}
"""Slow enough that a test can act in the middle of a stream."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Five services, the worker simulated."""
    running = RunningStack(tmp_path_factory.mktemp("stack"), simulate=True, worker=SLOW).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def vllm_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Five services, the worker a real vLLM."""
    slots = {"CAPSTAN_WORKER_LORA_SLOTS": "1"}
    running = RunningStack(tmp_path_factory.mktemp("vllm-stack"), simulate=False, worker=slots).start()
    yield running
    running.stop()
