"""`python -m loadtest.llm_bench`: a server's speed and price (`--url`), or all comparisons on this machine."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from capstan.common.provenance import provenance
from capstan.native.supervisor import ServiceFailed
from loadtest.llm_bench import single
from loadtest.llm_bench.bench import FULL, QUICK, Bench
from loadtest.llm_bench.comparisons import COMPARISONS, DidNotRun
from loadtest.llm_bench.figures import Slo
from loadtest.llm_bench.results import RESULT, Results, summary
from loadtest.llm_bench.servers import make_key, servers
from loadtest.llm_bench.workload import SHAPES

USD_PER_HOUR = 0.10
"""An assumption, about what two virtual cores with 24 GiB cost; the comparisons do not depend on it."""
_started = time.monotonic()


def main() -> None:
    """Entry point."""
    arguments = _arguments()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_stoppable(arguments))
    except asyncio.CancelledError:
        sys.exit("\nstopped, with all that was started; the same command goes on with what is missing")
    except (ServiceFailed, ValueError) as error:
        sys.exit(f"error: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-llm", description=__doc__)
    parser.add_argument("--slo-ttft-ms", type=float, default=1000.0, help="longest time to first token, p99")
    parser.add_argument("--slo-tpot-ms", type=float, default=100.0, help="longest time per output token, p99")
    parser.add_argument("--usd-per-hour", type=float, default=USD_PER_HOUR, help="price of the machine")
    here = parser.add_argument_group("comparisons on this machine")
    here.add_argument("--only", help=f"measure these anew, the others stay: {','.join(COMPARISONS)}")
    here.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    one = parser.add_argument_group("one server")
    one.add_argument("--url", help="base URL of a server with OpenAI's API")
    one.add_argument("--model", help="the model's name there")
    one.add_argument("--key", default=os.environ.get("LLM_BENCH_KEY", ""), help="API key (LLM_BENCH_KEY)")
    one.add_argument("--shape", choices=SHAPES, default="random", help="lengths of prompts and answers")
    one.add_argument("--requests", type=int, default=200, help="how many; of a sweep, at each rate at least")
    load = one.add_mutually_exclusive_group()
    load.add_argument("--rate", type=float, help="open loop: requests a second")
    load.add_argument("--concurrency", type=int, help="closed loop: requests running (default: 32)")
    load.add_argument("--sweep", action="store_true", help="find the highest rate within the SLO")
    one.add_argument("--start-rate", type=float, default=1.0, help="first rate of the sweep")
    one.add_argument("--honour-eos", action="store_true", help="for servers without ignore_eos")
    one.add_argument("--out", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if arguments.url and not arguments.model:
        parser.error("--url needs --model")
    if unknown := [name for name in (arguments.only or "").split(",") if name and name not in COMPARISONS]:
        parser.error(f"no such comparison: {', '.join(unknown)}; there are {', '.join(COMPARISONS)}")
    return arguments


async def _stoppable(arguments: argparse.Namespace) -> None:
    """Run; Ctrl-C, SIGTERM and a closed terminal end it, with all that was started."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    slo = Slo(arguments.slo_ttft_ms, arguments.slo_tpot_ms)
    if arguments.url:
        await single.run(arguments, slo, _say)
    else:
        await _compare(arguments, slo)


async def _compare(arguments: argparse.Namespace, slo: Slo) -> None:
    quick = bool(os.environ.get("QUICK"))
    plan = QUICK if quick else FULL
    names = arguments.only.split(",") if arguments.only else list(COMPARISONS)
    results = Results(quick=quick, anew=names if arguments.only else [], fresh=arguments.fresh)
    settings = {"plan": asdict(plan), "slo": asdict(slo), "usd_per_hour": arguments.usd_per_hour}
    with tempfile.TemporaryDirectory(prefix="bench-llm-") as scratch:
        directory = Path(scratch)
        async with servers(directory) as running:
            key = make_key(directory)
            bench = Bench(directory, running, plan, slo, arguments.usd_per_hour, key, _say, quick, results.comparisons)
            for name in names:
                if name in results.comparisons:
                    _say(f"{name}: measured before, by the run that was interrupted")
                else:
                    results.add(name, {**await _measure(bench, name), "settings": settings})
    path = results.publish(list(COMPARISONS))
    figures = summary(results.comparisons)
    _say(f"{path} has all figures" + ("" if path == RESULT else " (not for publication)"))
    print(json.dumps(figures), flush=True)
    if problems := {n: c["did_not_run"] for n, c in results.comparisons.items() if "did_not_run" in c}:
        sys.exit("\n".join(f"{name} did not run: {problem}" for name, problem in problems.items()))


async def _measure(bench: Bench, name: str) -> dict[str, Any]:
    """One comparison, with where it comes from; what it started beside the base is stopped."""
    _say(f"{name}: {' '.join((COMPARISONS[name].__doc__ or '').split())}")
    began, head = time.monotonic(), provenance(_command())
    try:
        found = await COMPARISONS[name](bench)
    except (DidNotRun, ServiceFailed) as error:
        found = {"did_not_run": str(error)}
        _say(f"{name} did not run: {error}")
    finally:
        await bench.servers.keep_only("vllm", "gateway")
    return {**head, "seconds": round(time.monotonic() - began), **found}


def _command() -> str:
    words = ["make bench-llm", *(["QUICK=1"] if os.environ.get("QUICK") else [])]
    return " ".join([*words, *([f"ARGS='{' '.join(sys.argv[1:])}'"] if sys.argv[1:] else [])])


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _started:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    main()
