"""Locust itself, in its own environment, against the running stack."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_stack import RunningStack

ROOT = Path(__file__).resolve().parents[3]


def _locust(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "native/bootstrap.py"), "loadtest", "--headless", "--only-summary"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


def _worker(stack: RunningStack) -> dict[str, float]:
    text = httpx2.get(f"{stack.url('worker')}/metrics", trust_env=False).text
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}


@pytest.mark.timeout(300)  # the first run installs Locust
def test_users_measure_tokens_and_those_who_leave_free_their_slots(stack: RunningStack, tmp_path: Path) -> None:
    before = _worker(stack)["capstan_sim_aborted_requests_total"]
    keys, out = tmp_path / "keys", tmp_path / "figures"
    keys.write_text(f"{stack.key}\n")
    done = _locust(
        *("--host", stack.url("gateway"), "--keys-file", str(keys), "--csv", str(out), "--load", "step"),
        *("--users", "10", "--spawn-rate", "10", "--run-time", "8s", "--stop-timeout", "20", "--tokens", "12"),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with Path(f"{out}_stats.csv").open() as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    for kind in ("POST", "TTFT", "TPOT", "ITL", "tok/s"):
        assert int(rows[kind, "chat"]["Request Count"]) > 0
    assert float(rows["TTFT", "chat"]["Min Response Time"]) >= 20  # the simulator's least (conftest.SLOW)
    assert float(rows["ITL", "chat"]["Median Response Time"]) >= 35  # its step is 40 ms
    assert int(rows["TTFT", "documents"]["Request Count"]) > 0
    left = int(rows["POST", "left early"]["Request Count"])
    after = _worker(stack)
    assert left > 0
    assert after["capstan_sim_aborted_requests_total"] - before == left
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0


@pytest.mark.timeout(300)
def test_a_refusal_is_a_failure_with_its_code(stack: RunningStack, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-nobody\n")
    done = _locust("--host", stack.url("gateway"), "--keys-file", str(keys), "--run-time", "2s", "--users", "1")
    assert done.returncode == 1
    assert "401 invalid_api_key" in done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_a_stream_that_breaks_off_is_a_failure_however_it_ends() -> None:
    find = "import runpy; print(runpy.run_path('native/bootstrap.py')['ensure']('locust'))"
    found = subprocess.run([sys.executable, "-c", find], cwd=ROOT, capture_output=True, text=True, check=True)
    command = [found.stdout.splitlines()[-1], "-m", "loadtest.users.tests.broken_streams"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert len(reported) == 3
    for errors in reported.values():
        assert len(errors) == 1
        assert errors[0].startswith("the stream broke off")
