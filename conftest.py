"""Fixtures for every test of the repository."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn
import uvloop
from running_stack import RunningStack

SECRET = "test-secret-of-at-least-32-characters"
Serve = Callable[..., Awaitable[str]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the services run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes share the tests (`make test`): what starts heavy parts stays together, and begins first."""
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    heavy = ["stack", "docker"]
    items.sort(key=lambda item: heavy.index(groups[item]) if groups[item] in heavy else len(heavy))


def _group(item: pytest.Item) -> str:
    place = item.path.relative_to(item.config.rootpath)
    if place.parts[:2] in (("tests", "compose"), ("tests", "helm")):
        return "docker"
    if place.parts[0] == "tests" or {"stack", "vllm_stack"} & set(getattr(item, "fixturenames", ())):
        return "stack"
    return str(place)


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
