"""Runs the simulator under uvicorn, and drains it as vLLM drains: new requests get 503, running ones finish."""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Iterator

import uvicorn

from capstan.common import telemetry
from capstan.common.logs import configure_logging
from capstan.common.server import bind
from capstan.common.settings import die
from capstan.worker.settings import WorkerSettings
from capstan.worker.simulate.adapters import Adapters
from capstan.worker.simulate.app import Simulator
from capstan.worker.simulate.engine import Clock, Engine, Speed
from capstan.worker.simulate.metrics import Metrics
from capstan.worker.simulate.prefix_cache import BLOCK, PrefixCache

log = logging.getLogger("capstan.worker")


class WallClock:
    """Real time."""

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def simulator(settings: WorkerSettings, clock: Clock) -> Simulator:
    """A simulated vLLM as `settings` describe it."""
    context = settings.max_model_len or settings.sim_context_len
    if settings.sim_kv_blocks * BLOCK < context:
        die(
            f"CAPSTAN_WORKER_SIM_KV_BLOCKS: {settings.sim_kv_blocks} blocks of {BLOCK} tokens cannot hold one request "
            f"of {context} tokens; give {-(-context // BLOCK)} or more, or a smaller CAPSTAN_WORKER_MAX_MODEL_LEN"
        )
    metrics = Metrics(settings.served_model_name, settings.lora_slots)
    speed = Speed(
        ttft_s=settings.sim_ttft_ms / 1000,
        tpot_s=settings.sim_tpot_ms / 1000,
        tpot_growth=settings.sim_tpot_growth,
        prefill_tokens_per_s=settings.sim_prefill_tokens_per_s,
        jitter=settings.sim_jitter,
        seed=settings.sim_seed,
    )
    cache = PrefixCache(settings.sim_kv_blocks)
    engine = Engine(speed, settings.max_num_seqs, settings.sim_queue_limit, cache, metrics)
    metrics.watch(engine)
    return Simulator(
        model=settings.served_model_name,
        context=context,
        engine=engine,
        metrics=metrics,
        adapters=Adapters(settings.served_model_name, settings.adapters),
        clock=clock,
        seed=settings.sim_seed,
        faults=settings.sim_faults,
    )


def run(settings: WorkerSettings) -> None:
    """Serve until SIGTERM or SIGINT, drain for at most `drain_s`, and return."""
    configure_logging("worker", settings.log_level)
    logging.getLogger("uvicorn").setLevel("WARNING")
    telemetry.setup_tracing("worker")
    app = simulator(settings, WallClock())
    listener = bind(settings.host, settings.port, "CAPSTAN_WORKER_PORT")
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    log.info("simulating a worker", extra={"model": settings.served_model_name, "port": settings.port})
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(Server(config), app, listener, settings.drain_s))
    telemetry.flush()


class Server(uvicorn.Server):
    """uvicorn without its own signal handling, which stops listening before the drain."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


async def _serve(server: uvicorn.Server, app: Simulator, listener: socket.socket, drain_s: float) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stop = asyncio.create_task(told.wait())
    await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        await _drain(app, drain_s)
        server.should_exit = True
    stop.cancel()
    await serving


async def _drain(app: Simulator, drain_s: float) -> None:
    app.draining = True
    log.info("draining", extra={"running": app.engine.unfinished})
    try:
        await asyncio.wait_for(app.engine.idle(), drain_s)
    except TimeoutError:
        log.warning("drain took too long; ending what runs", extra={"running": app.engine.unfinished})
        app.engine.end_all(time.monotonic())
