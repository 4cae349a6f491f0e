"""The document's generated parts, and the plots, from results."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.llm_bench import report
from loadtest.llm_bench.capacity import Engine, check, predict
from loadtest.llm_bench.figures import Slo
from loadtest.llm_bench.results import RESULT, SOAK

ROOT = Path(__file__).resolve().parents[3]
SLO = Slo(1000, 100)
TIMES = {"p50": 100.4, "p95": 150.0, "p99": 1234.5, "mean": 110.0}
HEAD = {
    "command": "make bench-llm",
    "commit": "abc1234",
    "date": "2026-11-25",
    "machine": {"cpus": 2, "cpu": "X", "memory_gib": 23.5},
    "settings": {"usd_per_hour": 0.1, "slo": {"ttft_ms": 1000, "tpot_ms": 100}},
    "cells": [{"round": 5}],
}


def _arm(tok_s: float, **more: Any) -> dict[str, Any]:
    times = {"ttft_ms": TIMES, "tpot_ms": TIMES, "itl_ms": TIMES, "e2e_ms": TIMES}
    return {
        "tok_s": tok_s,
        "concurrency": 32,
        "failures": {},
        "usd_per_mtok": 0.05,
        "memory_mb": 3000.0,
        **times,
        **more,
    }


def _results() -> dict[str, Any]:
    engine = Engine(((1, 0.1), (32, 0.25)), 800.0)
    points = [
        {**predict(engine, "random", rate, 1, SLO, 30), "shape": "random", "held": rate < 1} for rate in (0.5, 1.5)
    ]
    arms = {name: _arm(number) for number, name in enumerate(("naive", "naive-batch", "vllm", "gateway", "litellm"), 1)}
    serving = {"cost_reduction_vs_naive": 0.9512, "cost_reduction_vs_naive-batch": 0.5, "gateway_vs_vllm": 0.99}
    off = {"vs_base": 0.1, "vs_base_1": 0.7, "two_vs_one": 1.1, "cost_reduction": 0.6}
    one = {"ours": 10.0, "theirs": 9.0, "difference": 0.1111, "noise": 0.02}
    return {
        "serving": {**HEAD, "arms": arms, **serving, "litellm_vs_vllm": 0.9},
        "lengths": {**HEAD, **off, "arms": {name: arms[name] for name in ("naive-batch", "gateway")}},
        "batching": {**HEAD, **off, "arms": {"vllm": _arm(400), "no-batching": _arm(40)}},
        "prefix-caching": {**HEAD, **off, "arms": {"vllm": _arm(400), "no-prefix-cache": _arm(300)}},
        "awq": {
            **HEAD,
            **off,
            "arms": {name: _arm(1) for name in ("vllm", "awq", "vllm-1", "awq-1")},
            "checkpoint": {"bytes": {"from": 269e6, "to": 173e6}},
        },
        "workers": {**HEAD, **off, "arms": {"one-worker": _arm(400), "two-workers": _arm(440)}},
        "sustained": {**HEAD, "points": points, "sustained": points[0]},
        "capacity": {**HEAD, **check(engine, points, 0.5, SLO), "replicas": {"10": 7}},
        "crosscheck": {**HEAD, "difference": {"closed": {"tok_s": one}, "open": {"tok_s": one}}},
    }


SOAKED = {
    **HEAD,
    "workers": "vLLM",
    "seconds": 1800.0,
    "rate": 4.2,
    "requests": 100,
    "completed": 95,
    "left": 2,
    "failed": 3,
    "unexplained": 0,
    "faults": [{"name": "worker killed", "began_s": 600.0, "ended_s": 650.0}],
    "explained": {"worker killed": {"broke off": 3}},
    "memory": [
        {
            "process": "gateway",
            "incarnation": 1,
            "from_s": 0.0,
            "to_s": 1800.0,
            "first_mb": 60.0,
            "last_mb": 61.0,
            "growth_mb": 0.5,
            "flat": True,
            "curve_mb": [60.0, 61.0],
        }
    ],
}


def test_the_document_says_what_the_committed_results_say() -> None:
    text = (ROOT / report.DOCUMENT).read_text()
    for name, table in report.tables(report.read(ROOT / RESULT), report.read(ROOT / SOAK)).items():
        place = re.search(rf"<!-- table:{name} -->\n(.*?)\n<!-- /table -->", text, re.DOTALL)
        assert place, f"docs/benchmarks.md has no place for {name}"
        assert place.group(1) == table.strip(), "run 'make bench-llm-report' and commit"


def test_without_results_nothing_is_claimed() -> None:
    found = report.tables({}, {})
    assert {table for name, table in found.items() if name != "gpus"} == {report.NOT_YET}
    assert not re.search(r"\| *[\d.]+ *\|", found["gpus"])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("serving", "| vLLM behind Capstan's gateway | 4.0 | 100 | 1,234 | 100 | 1,234 | 0 | 0.050 | 3,000 |"),
        ("serving", "95.1% below one at a time"),
        ("features", "| no continuous batching (`--max-num-seqs 1`) | 400 → 40 | 0.10 |"),
        ("features", "| AWQ INT4 weights, one request at a time | 1 → 1 | 0.70 |"),
        ("features", "| two workers with half of the cores each | 400 → 440 | 1.10 |"),
        ("features", "173 MB instead of 269"),
        ("sustained", "Sustained through the gateway: **0.50 requests/s"),
        ("capacity", "10 a second: 7"),
        ("crosscheck", "| closed loop, `tok_s` | 10.0 | 9.0 | +11.1% | 2.0% |"),
        ("soak", "| worker killed | 600 to 650 | 3 × broke off |"),
        ("soak", "**0 unexplained**"),
    ],
)
def test_a_table_shows_its_results(name: str, row: str) -> None:
    assert row in report.tables(_results(), SOAKED)[name]


@pytest.mark.timeout(300)  # the first run installs matplotlib
def test_the_plots_are_small_and_drawn_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([_results(), SOAKED]))
    draw = (
        "import json, pathlib, sys; from loadtest.llm_bench.plots import draw; root = pathlib.Path(sys.argv[1]);"
        "found = json.loads((root / 'in.json').read_text()); draw(*found, root / 'a'); draw(*found, root / 'b')"
    )
    find = "import runpy; print(runpy.run_path('native/bootstrap.py')['ensure']('plots'))"
    found = subprocess.run([sys.executable, "-c", find], cwd=ROOT, capture_output=True, text=True, check=True)
    python = found.stdout.splitlines()[-1]
    done = subprocess.run([python, "-c", draw, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = {path.name: path.read_text() for path in (tmp_path / "a").iterdir()}
    assert first == {path.name: path.read_text() for path in (tmp_path / "b").iterdir()}
    assert set(first) == {"bench-serving.svg", "bench-sustained.svg", "bench-soak.svg"}
    for text in first.values():
        assert text.startswith("<?xml")
        assert len(text) < 60_000
        assert "fill: #ffffff" not in text  # no white ground: it lies on the page's own
