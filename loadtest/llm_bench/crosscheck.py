"""Our figures beside those of `vllm bench serve`, of the same server, turn by turn, with the same lengths.

Both ask for chat completions of the same shape and count as vLLM does. What differs: the words (or the second would
find the first's prompts in the prefix cache), in the open loop the arrival times (both are Poisson), and that vLLM's
clock starts when a request is sent, ours when it is due.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from capstan.common.checkpoint import prepare
from capstan.common.settings import CommonSettings
from capstan.native.supervisor import ServiceFailed
from capstan.worker.settings import WorkerSettings
from loadtest.llm_bench.bench import SEED, Bench, Cell, medians
from loadtest.llm_bench.client import Target, client
from loadtest.llm_bench.figures import figures
from loadtest.llm_bench.workload import Request, poisson, requests

ENVIRONMENT = "CAPSTAN_NATIVE_VLLM_BENCH_PYTHON"
_METRICS = ("ttft", "tpot", "itl", "e2e")
_THEIR_NAMES = {"e2e": "e2el"}
_RATE = 0.5
"""The open loop's rate, as a part of what the closed loop completed in a second."""


async def crosscheck(bench: Bench) -> dict[str, Any]:
    """A closed and an open loop, each measured by both in every round."""
    await bench.base()
    target, cells = bench.target("vllm"), []
    concurrency = bench.plan.concurrency // 2
    number = max(8, concurrency * bench.plan.waves)
    rate = 0.0
    for turn in range(1, min(3, bench.plan.rounds) + 1):
        for load in ("closed", "open"):
            for tool in ("ours", "vllm bench serve"):
                asked = requests("random", number, f"{SEED} {turn}", f"{tool} {load}")
                limits = {"rate": rate} if load == "open" else {"concurrency": concurrency}
                ask = _ours if tool == "ours" else _theirs
                found = await ask(bench, target, asked, f"{turn}", **limits)
                rate = rate or round(_RATE * found["requests_s"], 3)
                cells.append({"arm": f"{tool}, {load}", "round": turn, **limits, **found})
                bench.say(f"round {turn}  {load} loop, {tool}: {found['tok_s']} tok/s, TTFT {found['ttft_ms']}")
    arms = {arm: medians([c for c in cells if c["arm"] == arm]) for arm in dict.fromkeys(c["arm"] for c in cells)}
    loads = {
        load: difference(arms[f"ours, {load}"], arms[f"vllm bench serve, {load}"], spread(cells, f"ours, {load}"))
        for load in ("closed", "open")
    }
    return {"arms": arms, "difference": loads, "cells": cells}


def difference(ours: Cell, theirs: Cell, noise: dict[str, float]) -> dict[str, Any]:
    """By how much our medians are above theirs, as a part of theirs, and how far our own rounds lie apart."""
    found: dict[str, Any] = {}
    for name, (a, b) in _pairs(ours, theirs).items():
        found[name] = {"ours": a, "theirs": b, "difference": round(a / b - 1, 4) if b else None, "noise": noise[name]}
    return found


def spread(cells: list[Cell], arm: str) -> dict[str, float]:
    """Highest less lowest round over their middle, for each figure."""
    rounds = [_pairs(cell, cell) for cell in cells if cell["arm"] == arm]
    found = {}
    for name in rounds[0]:
        values = [one[name][0] for one in rounds]
        found[name] = round(2 * (max(values) - min(values)) / ((max(values) + min(values)) or 1), 4)
    return found


def _pairs(ours: Cell, theirs: Cell) -> dict[str, tuple[float, float]]:
    pairs = {"tok_s": (ours["tok_s"], theirs["tok_s"])}
    for metric in _METRICS:
        for percentile in ("p50", "p99"):
            name = f"{metric}_ms"
            pairs[f"{metric}_{percentile}_ms"] = (ours[name][percentile] or 0.0, theirs[name][percentile] or 0.0)
    return pairs


async def _ours(
    bench: Bench, target: Target, asked: list[Request], seed: str, *, rate: float = 0, concurrency: int = 0
) -> Cell:
    async with client(target) as sender:
        if rate:
            samples = await sender.open_loop(asked, poisson(rate, len(asked), seed))
        else:
            samples = await sender.closed_loop(asked, concurrency)
    return figures(samples, bench.slo)


async def _theirs(
    bench: Bench, target: Target, asked: list[Request], seed: str, *, rate: float = 0, concurrency: int = 0
) -> Cell:
    prompts, result = bench.directory / "prompts.jsonl", bench.directory / "vllm-bench.json"
    rows = [json.dumps({"prompt": request.prompt, "output_tokens": request.output_tokens}) for request in asked]
    prompts.write_text("\n".join(rows) + "\n")
    result.unlink(missing_ok=True)
    model = prepare(WorkerSettings.model_fields["model"].default, CommonSettings().cache_dir)
    command = arguments(target, model, prompts, result, len(asked), seed)
    command += ["--request-rate", str(rate)] if rate else ["--max-concurrency", str(concurrency)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    environment["PYTHONPATH"] = os.environ.get("CAPSTAN_NATIVE_SOURCES", "")
    python = os.environ[ENVIRONMENT]
    process = await asyncio.create_subprocess_exec(
        python, *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode or not result.exists():
        raise ServiceFailed(f"vllm bench serve failed:\n{output.decode(errors='replace')[-2000:]}")
    return converted(json.loads(result.read_text()))


def arguments(target: Target, model: Path, prompts: Path, result: Path, number: int, seed: str) -> list[str]:
    """Arguments of Python for `vllm bench serve` with our requests."""
    return [
        *("-m", "loadtest.llm_bench.vllm_serve", "--backend", "openai-chat", "--base-url", target.url),
        *("--endpoint", "/v1/chat/completions", "--model", str(model), "--served-model-name", target.model),
        *("--dataset-name", "custom", "--dataset-path", str(prompts), "--skip-chat-template", "--disable-shuffle"),
        *("--custom-output-len", "-1", "--num-prompts", str(number), "--ignore-eos", "--temperature", "0"),
        *("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,95,99", "--seed", seed),
        *("--disable-tqdm", "--save-result", "--result-dir", str(result.parent), "--result-filename", result.name),
    ]


def converted(found: dict[str, Any]) -> Cell:
    """vLLM's result under our names."""
    cell: Cell = {"requests": found["num_prompts"], "completed": found["completed"]}
    cell["failures"] = {"failed": found["failed"]} if found.get("failed") else {}
    cell |= {"tok_s": round(found["output_throughput"], 2), "requests_s": round(found["request_throughput"], 4)}
    for metric in _METRICS:
        theirs = _THEIR_NAMES.get(metric, metric)
        values = {f"p{q}": round(found[f"p{q}_{theirs}_ms"], 2) for q in (50, 95, 99)}
        cell[f"{metric}_ms"] = {**values, "mean": round(found[f"mean_{theirs}_ms"], 2)}
    return cell
