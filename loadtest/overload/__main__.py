"""`python -m loadtest.overload`: what the gateway does when there is too much to do, beside doing without it."""

import asyncio
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from capstan.common.provenance import provenance
from capstan.native.supervisor import ServiceFailed
from loadtest.overload import affinity, fairness, overload
from loadtest.overload.bench import POOL, WORKER, Bench
from loadtest.overload.cluster import make_keys

RESULT = Path("loadtest/results/bench-overload.json")
SCRATCH = Path(".capstan/bench-overload.json")
"""Where a quick run leaves its figures."""
_PEERS = "CAPSTAN_NATIVE_PEERS_PYTHON"

_started = time.monotonic()


def main() -> None:
    """Entry point."""
    if _PEERS not in os.environ:
        sys.exit(f"error: the peer needs its environment: run 'make bench-overload' ({_PEERS} is not set)")
    _raise_open_files()
    gc.disable()  # the load generator's pauses would be everyone's latency; a run makes little garbage
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_stoppable())
    except asyncio.CancelledError:
        sys.exit("\nstopped, with everything that the bench had started")
    except ServiceFailed as error:
        sys.exit(f"error: {error}")


async def _stoppable() -> None:
    """Run; Ctrl-C, SIGTERM and a closed terminal end it, with all that was started. A second one changes nothing."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    await _run()


async def _run() -> None:
    quick = bool(os.environ.get("QUICK"))
    result: dict[str, Any] = provenance("make bench-overload" + (" QUICK=1" if quick else ""))
    with tempfile.TemporaryDirectory(prefix="bench-overload-") as scratch:
        router = Path(os.environ[_PEERS]).parent / "vllm-router"
        bench = Bench(Path(scratch), router, make_keys(Path(scratch)), quick, _say)
        runs = {name: await part.run(bench) for name, part in _PARTS.items()}
    summary = {key: value for part in runs.values() for key, value in part.pop("summary").items()}
    result |= {
        "seconds": round(time.monotonic() - _started),
        "summary": summary,
        "worker": WORKER,
        "pool": POOL,
        **runs,
    }
    out = SCRATCH if quick else RESULT
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    _say(f"{out} has all figures")
    print(json.dumps(summary), flush=True)


_PARTS = {"overload": overload, "fairness": fairness, "affinity": affinity}


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _started:4.0f} s] {text}", flush=True)


def _raise_open_files() -> None:
    """A flood leaves thousands of requests open: as many files as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
