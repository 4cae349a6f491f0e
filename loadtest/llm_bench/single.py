"""One server, wherever it is: a closed loop, an open loop, or a sweep of rates."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from capstan.common.provenance import provenance
from loadtest.llm_bench.bench import SEED, line
from loadtest.llm_bench.client import Target, client
from loadtest.llm_bench.figures import Slo, figures, usd_per_mtok
from loadtest.llm_bench.sweep import at_rate, sweep
from loadtest.llm_bench.workload import requests

_RATE_S = 60.0
_HALVINGS = 4
_CONCURRENCY = 32


async def run(arguments: argparse.Namespace, slo: Slo, say: Callable[[str], None]) -> None:
    """Measure, print a table's line for each load and, last, one JSON line; write them to `--out`."""
    target = Target(arguments.url, arguments.model, arguments.key, to_the_end=not arguments.honour_eos)
    found = await _measure(arguments, target, slo, say)
    head = provenance(_command(arguments))
    whole = {**head, "slo": asdict(slo), "usd_per_hour": arguments.usd_per_hour, **found}
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(_line(found, arguments.usd_per_hour)), flush=True)


async def _measure(
    arguments: argparse.Namespace, target: Target, slo: Slo, say: Callable[[str], None]
) -> dict[str, Any]:
    if arguments.sweep:
        return await sweep(
            lambda rate: at_rate(target, arguments.shape, rate, max(arguments.requests, round(rate * _RATE_S)), slo),
            slo,
            arguments.start_rate,
            _HALVINGS,
            say,
        )
    if arguments.rate:
        found = await at_rate(target, arguments.shape, arguments.rate, arguments.requests, slo)
    else:
        concurrency = arguments.concurrency or _CONCURRENCY
        async with client(target) as sender:
            samples = await sender.closed_loop(requests(arguments.shape, arguments.requests, SEED), concurrency)
        found = {"concurrency": concurrency, "shape": arguments.shape, **figures(samples, slo)}
    say(line(found))
    return found


def _line(found: dict[str, Any], usd_per_hour: float) -> dict[str, Any]:
    """What the last line says: of a sweep, the highest rate that held."""
    point = (found["sustained"] or {}) if "sustained" in found else found
    names = ("rate", "concurrency", "completed", "failures", "tok_s", "requests_s", "goodput_s")
    shown = {name: point[name] for name in names if name in point}
    times = {
        f"{metric}_{q}_ms": point[f"{metric}_ms"][q]
        for metric in ("ttft", "tpot", "itl", "e2e")
        for q in ("p50", "p95", "p99")
        if point
    }
    return {**shown, **times, "usd_per_mtok": usd_per_mtok(usd_per_hour, point.get("tok_s", 0.0))}


def _command(arguments: argparse.Namespace) -> str:
    """The command without the server's address and key, which are another site's business."""
    words = ["python -m loadtest.llm_bench --url URL --model", arguments.model, "--shape", arguments.shape]
    for name in ("rate", "concurrency"):
        if getattr(arguments, name):
            words += [f"--{name}", str(getattr(arguments, name))]
    return " ".join([*words, "--requests", str(arguments.requests), *(["--sweep"] if arguments.sweep else [])])
