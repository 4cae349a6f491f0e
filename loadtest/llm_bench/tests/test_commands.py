"""The command line against a running stack, and what is read of `vllm bench serve`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running_stack import RunningStack

from loadtest.llm_bench.crosscheck import converted, difference, spread

ROOT = Path(__file__).resolve().parents[3]


def _bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "loadtest.llm_bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("load", [("--concurrency", "4"), ("--rate", "8")])
def test_one_server_is_measured_by_its_url(stack: RunningStack, tmp_path: Path, load: tuple[str, str]) -> None:
    out = tmp_path / "figures.json"
    where = ("--url", f"{stack.url('gateway')}/v1", "--model", "smollm2-135m", "--key", stack.key)
    done = _bench(*where, "--requests", "8", *load, "--out", str(out), "--usd-per-hour", "2")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["failures"] == {}
    assert last["ttft_p50_ms"] >= 20  # the simulator's least (conftest.SLOW)
    assert last["tpot_p50_ms"] >= 35  # its step is 40 ms
    assert last["usd_per_mtok"] == pytest.approx(2 / last["tok_s"] / 3600 * 1e6, rel=1e-3)
    written = json.loads(out.read_text())
    assert (written["completed"], written["short_answers"]) >= (8, 0)
    assert stack.key not in out.read_text()
    assert stack.url("gateway") not in out.read_text()


def test_a_wrong_key_is_counted_as_failures(stack: RunningStack) -> None:
    done = _bench("--url", stack.url("gateway"), "--model", "smollm2-135m", "--key", "sk-nobody", "--requests", "2")
    assert json.loads(done.stdout.splitlines()[-1])["failures"] == {"401 invalid_api_key": 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--url", "http://127.0.0.1:1"), "--url needs --model"),
        (("--only", "serving,speed"), "no such comparison: speed; there are serving, curve"),
        (("--url", "localhost", "--model", "m"), "give http://host:port"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], said: str) -> None:
    done = _bench(*arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def _theirs(tok_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {"num_prompts": 8, "completed": 7, "failed": 1}
    found |= {"output_throughput": tok_s, "request_throughput": 2.0}
    for metric in ("ttft", "tpot", "itl", "e2el"):
        found |= {f"p{q}_{metric}_ms": float(q) for q in (50, 95, 99)} | {f"mean_{metric}_ms": 51.0}
    return found


def test_their_figures_stand_beside_ours_with_our_own_noise() -> None:
    ours, theirs = converted(_theirs(110.0)), converted(_theirs(100.0))
    assert theirs["failures"] == {"failed": 1}
    rounds = [{"arm": "ours", **converted(_theirs(tok_s))} for tok_s in (90.0, 100.0, 110.0)]
    found = difference(ours, theirs, spread(rounds, "ours"))
    assert found["tok_s"] == {"ours": 110.0, "theirs": 100.0, "difference": 0.1, "noise": 0.2}
    assert found["e2e_p99_ms"] == {"ours": 99.0, "theirs": 99.0, "difference": 0.0, "noise": 0.0}
