"""The loop: it learns, goes on to the same losses after a stop, and does the same with two processes as with one."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="requirements/reranker.txt is not installed")

import torch

from capstan.jobs.command import INTERRUPTED
from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.optim import rate_at
from capstan.jobs.pretrain.pack import Rows
from capstan.jobs.pretrain.recipe import Recipe, Training
from capstan.jobs.pretrain.train import Run, train
from capstan.jobs.pretrain.world import ALONE

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours


def run(recipe: Recipe, rows_dir: Path, out: Path, stop_after: int | None = None) -> list[dict[str, float]]:
    """The curve without its times."""
    out.mkdir(exist_ok=True)
    one = Run(out, ALONE, say=lambda _: None)
    one.stop = lambda: len(one.curve) == stop_after
    model = train(recipe, 320, (Rows(rows_dir / "train.bin"), Rows(rows_dir / "validation.bin")), one)
    assert (model is None) is (stop_after is not None)
    return [{k: v for k, v in point.items() if k not in ("seconds", "tokens_s")} for point in one.curve]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_goes_on_to_the_same_losses(
    recipe: Recipe, rows_dir: Path, tmp_path: Path, precision: str
) -> None:
    recipe = recipe.with_(training={"precision": precision})
    whole = run(recipe, rows_dir, tmp_path / "whole")
    run(recipe, rows_dir, tmp_path / "parts", stop_after=3)
    run(recipe, rows_dir, tmp_path / "parts", stop_after=7)
    resumed = run(recipe, rows_dir, tmp_path / "parts")
    assert [point["step"] for point in whole] == list(range(1, 11))
    assert resumed == whole
    saved = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("whole", "parts")]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])


@pytest.mark.parametrize("change", [{}, {"optimizer": "adamw", "schedule": "cosine"}])
def test_training_lowers_the_loss(recipe: Recipe, rows_dir: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    curve = run(recipe.with_(training={"tokens": 30 * 512, **change}), rows_dir, tmp_path / "run")
    assert curve[0]["loss"] == pytest.approx(5.77, abs=0.05)  # ln 320: nothing is known yet
    assert curve[-1]["val_loss"] < 0.75 * curve[0]["loss"]


def test_prometheus_sees_how_far_the_run_is(recipe: Recipe, rows_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen: list[str] = []

    def scrape(point: dict[str, float]) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            seen.append(response.read().decode())

    rows = Rows(rows_dir / "train.bin"), Rows(rows_dir / "validation.bin")
    train(recipe, 320, rows, Run(tmp_path, ALONE, say=lambda _: None, metrics_port=port, on_point=scrape))
    series = dict(line.rsplit(" ", 1) for line in seen[3].splitlines() if not line.startswith("#"))
    labels = '{job="pretrain",run="tiny"}'
    assert float(series[f"capstan_train_step{labels}"]) == 4
    assert float(series[f"capstan_train_steps_planned{labels}"]) == 10
    assert float(series[f"capstan_train_tokens_total{labels}"]) == 4 * 512
    assert float(series['capstan_train_loss{job="pretrain",run="tiny",split="val"}']) > 0
    assert 0 < float(series[f"capstan_train_mfu_ratio{labels}"]) < 1


def test_a_checkpoint_of_another_recipe_is_refused(recipe: Recipe, rows_dir: Path, tmp_path: Path) -> None:
    run(recipe, rows_dir, tmp_path / "run", stop_after=2)
    with pytest.raises(PretrainError, match="another recipe or other data"):
        run(recipe.with_(model={"tied": True}), rows_dir, tmp_path / "run")


def test_a_batch_that_does_not_divide_is_refused(recipe: Recipe, rows_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="batch_tokens"):
        run(recipe.with_(training={"batch_tokens": 500}), rows_dir, tmp_path / "run")


def test_rates_rise_stay_and_fall() -> None:
    plan = Training(tokens=1, warmup=0.1, decay=0.4)
    rates = [rate_at(step, 100, plan) for step in range(100)]
    assert rates[0] == 0.1
    assert set(rates[9:60]) == {1.0}
    assert rates[99] == pytest.approx(1 / 40)
    assert rates == [*sorted(rates[:60]), *sorted(rates[60:], reverse=True)]


@pytest.fixture
def job(recipe: Recipe, rows_dir: Path, tokenizer: Any, tmp_path: Path) -> list[str]:
    """Arguments of the train command over prepared rows, in tmp_path/run."""
    out = tmp_path / "run"
    (out / "rows").mkdir(parents=True)
    for path in rows_dir.iterdir():
        (out / "rows" / path.name).write_bytes(path.read_bytes())
    tokenizer.save(str(out / "tokenizer.json"))
    (tmp_path / "recipe.yaml").write_text(recipe.model_dump_json())
    return ["-m", "capstan.jobs.pretrain", "train", "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(out)]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **extra}


def curve_of(tmp_path: Path) -> list[dict[str, float]]:
    curve: list[dict[str, float]] = json.loads((tmp_path / "run" / "run.json").read_text())["curve"]
    return curve


@pytest.mark.timeout(300)
def test_sigterm_saves_and_exits_with_130_and_the_same_command_ends_the_run(
    job: list[str], recipe: Recipe, tmp_path: Path, rows_dir: Path
) -> None:
    longer = recipe.with_(training={"tokens": 200 * 512})
    (tmp_path / "recipe.yaml").write_text(longer.model_dump_json())
    process = subprocess.Popen([sys.executable, *job], env=environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 1 of"):
            process.send_signal(signal.SIGTERM)
            break
    said = process.stderr.read()
    assert process.wait(60) == INTERRUPTED
    assert "goes on from there" in said
    assert len(curve_of(tmp_path)) < 200
    subprocess.run([sys.executable, *job], env=environment(), check=True, capture_output=True)
    interrupted = [point["loss"] for point in curve_of(tmp_path)]
    whole = [point["loss"] for point in run(longer, rows_dir, tmp_path / "whole")]
    assert interrupted == pytest.approx(whole, abs=1e-5)  # the same but for the number of threads


@pytest.mark.timeout(300)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(
    job: list[str], recipe: Recipe, rows_dir: Path, tmp_path: Path, parallel: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe.with_(training={"parallel": parallel}).model_dump_json())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen(
            [sys.executable, *job], env=environment(RANK=n, LOCAL_RANK=n, **world), stderr=subprocess.PIPE, text=True
        )
        for n in ("0", "1")
    ]
    errors = [process.communicate(timeout=280)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    alone = run(recipe, rows_dir, tmp_path / "alone")
    assert [point["loss"] for point in curve_of(tmp_path)] == pytest.approx(
        [point["loss"] for point in alone], abs=2e-3
    )
    assert curve_of(tmp_path)[0]["norm"] == pytest.approx(alone[0]["norm"], rel=1e-4)
