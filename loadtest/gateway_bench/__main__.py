"""`python -m loadtest.gateway_bench`: the gateway and its peers, each alone on one core, in one run."""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

from capstan.common.provenance import provenance
from loadtest.gateway_bench.arms import ARMS, DEFAULT, Site
from loadtest.gateway_bench.machine import Processes
from loadtest.gateway_bench.mocks import MissingProgramsError, check_programs, start_mocks
from loadtest.gateway_bench.report import disturbance, medians, summary, table
from loadtest.gateway_bench.rounds import Bench, Cores, Plan

RESULT = Path("loadtest/results/bench-gateway.json")
SCRATCH = Path(".capstan/bench-gateway.json")
"""Where a quick or a partial run leaves its figures."""

FULL = Plan(rounds=3, one_s=2, many_s=3, streams=(400, 800), stream_s=3.0, soak_requests=1_000_000)
QUICK = Plan(rounds=2, one_s=1, many_s=1, streams=(800,), stream_s=1.0, soak_requests=0)

_started = time.monotonic()


def main() -> None:
    """Command line entry point."""
    quick, everyone = bool(os.environ.get("QUICK")), os.environ.get("PEERS") == "all"
    parser = argparse.ArgumentParser(prog="bench-gateway", description=__doc__)
    default = ",".join(ARMS if everyone else DEFAULT)
    parser.add_argument("--arms", default=default, help=f"comma-separated, of {', '.join(ARMS)}")
    parser.add_argument("--rounds", type=int, help="turns that each arm has")
    parser.add_argument("--soak", type=int, help="requests over which memory is watched; 0: not at all")
    parser.add_argument("--phases", default="requests,streams", help="either or both")
    parser.add_argument("--cores", default="0,1", help="the load's core, the gateway's core")
    parser.add_argument("--out", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    names = arguments.arms.split(",")
    if unknown := [name for name in names if name not in ARMS]:
        parser.error(f"no such arm: {', '.join(unknown)}; there are {', '.join(ARMS)}")
    plan = QUICK if quick else FULL
    given = {"rounds": arguments.rounds, "soak_requests": arguments.soak}
    plan = Plan(**{**asdict(plan), **{name: value for name, value in given.items() if value is not None}})
    load, gateway = (int(core) for core in arguments.cores.split(","))
    whole = plan == FULL and set(names) >= set(DEFAULT) and arguments.phases == "requests,streams"
    out = arguments.out or (RESULT if whole else SCRATCH)
    try:
        check_programs()
        failed = run(names, arguments.phases, plan, Cores(load, gateway), out)
    except MissingProgramsError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped, with everything that the bench had started")
    sys.exit(1 if failed else 0)


def run(names: Sequence[str], phases: str, plan: Plan, cores: Cores, out: Path) -> bool:
    """Measure, print and write. Whether an arm did not run."""
    signal.signal(signal.SIGTERM, _interrupt)
    _raise_open_files()
    head = provenance(_command())
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as scratch, Processes(Path(scratch)) as processes:
        directory = Path(scratch)
        mocks = start_mocks(processes, directory, cores.load)
        site = Site(directory, mocks.completions, mocks.redis)
        bench = Bench(site, processes, cores, plan, _say)
        arms = [ARMS[name] for name in names]
        if "requests" in phases:
            bench.requests(arms, mocks.completions)
        if "streams" in phases:
            bench.streams(arms, mocks.streams)
    found = medians(bench.cells)
    figures = summary(found, bench.rss_mb, bench.soak)
    result = {
        **head,
        "cores": asdict(cores),
        "plan": asdict(plan),
        "seconds": round(time.monotonic() - _started),
        "commands": {**load_commands(cores, plan), **bench.commands},
        "did_not_run": bench.problems,
        "summary": figures,
        "medians": found,
        "rss_mb": bench.rss_mb,
        "soak": bench.soak,
        "cells": bench.cells,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print("\n".join((*table(found, bench.rss_mb, bench.soak, bench.problems), *disturbance(found))))
    print(f"\n{out} has every round and command\n")
    print(json.dumps(figures))
    return bool(bench.problems)


def load_commands(cores: Cores, plan: Plan) -> dict[str, str]:
    """How the load is made; the arms' headers are left out."""
    core = f"taskset -c {cores.load}"
    client = f"python -m loadtest.gateway_bench.stream_load --streams {'|'.join(map(str, plan.streams))}"
    return {
        "requests": f"{core} wrk -t1 -c1|32 -d{plan.one_s}s|{plan.many_s}s --latency -s request.lua",
        "streams": f"{core} {client} --seconds {plan.stream_s}",
        "mocks": f"{core} nginx|redis-server|python -m loadtest.gateway_bench.stream_mock",
    }


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _started:5.0f} s] {text}", flush=True)


def _command() -> str:
    switches = [f"{name}={os.environ[name]}" for name in ("QUICK", "PEERS") if os.environ.get(name)]
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["make bench-gateway", *switches, *([f"ARGS='{' '.join(words)}'"] if words else [])])


def _raise_open_files() -> None:
    """Hundreds of streams are thousands of sockets: as many open files as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
