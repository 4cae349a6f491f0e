"""A simulator over real HTTP whose time the test makes pass."""

import asyncio
import heapq
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from capstan.worker.settings import WorkerSettings
from capstan.worker.simulate.app import Simulator
from capstan.worker.simulate.server import Server, simulator


class VirtualClock:
    """Time that passes when a test says so; with `auto` each sleep ends at once, as if its seconds had passed."""

    def __init__(self) -> None:
        self.time = 0.0
        self.auto = True
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        if self.auto:
            self.time += seconds
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, id(future), future))
        await future

    def advance(self) -> None:
        """Let time pass until the next sleeper's end."""
        self.time, _, future = heapq.heappop(self._sleepers)
        future.set_result(None)

    @property
    def asleep(self) -> bool:
        return bool(self._sleepers)

    def release(self) -> None:
        """From now on let time pass by itself."""
        self.auto = True
        while self._sleepers:
            self.advance()


class Simulated:
    """A running simulator and a client for it."""

    def __init__(self, app: Simulator, client: httpx2.AsyncClient, clock: VirtualClock) -> None:
        self.app = app
        self.engine = app.engine
        self.client = client
        self.clock = clock

    async def chat(self, content: str = "One two three.", **fields: object) -> httpx2.Response:
        body = {"model": "sim", "messages": [{"role": "user", "content": content}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    def open_stream(self, content: str = "One two three.", **fields: object):
        body = {"model": "sim", "messages": [{"role": "user", "content": content}], "stream": True, **fields}
        return self.client.stream("POST", "/v1/chat/completions", json=body)

    async def metric(self, name: str, **labels: str) -> float:
        """The value of the one sample with this name and these labels."""
        families = text_string_to_metric_families((await self.client.get("/metrics")).text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        (found,) = [sample.value for sample in samples if labels.items() <= sample.labels.items()]
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the event loop run until `condition` holds."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    async def step(self) -> None:
        """Let the engine finish its present step and start the next one."""
        await self.until(lambda: self.clock.asleep)
        self.clock.advance()
        await self.until(lambda: self.clock.asleep or not self.engine.unfinished)


@asynccontextmanager
async def _running(clock: VirtualClock, settings: dict[str, object]) -> AsyncIterator[Simulated]:
    app = simulator(WorkerSettings.model_validate({"served_model_name": "sim"} | settings), clock)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
            yield Simulated(app, client, clock)
    finally:
        clock.release()
        server.should_exit = True
        await serving


@pytest.fixture
async def simulate() -> AsyncIterator[Callable[..., Awaitable[Simulated]]]:
    """Starts simulators: `await simulate(max_num_seqs=1)`; they stop when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Simulated:
            return await stack.enter_async_context(_running(VirtualClock(), settings))

        yield start
