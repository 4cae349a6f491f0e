"""The commands as processes: a signal, what is kept, what is done again, and the cards."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_assistant import items

from capstan.jobs.assistant.__main__ import main
from capstan.jobs.assistant.items import write_items
from capstan.jobs.assistant.pairs import Pair
from capstan.jobs.assistant.recipe import Recipe
from capstan.jobs.command import INTERRUPTED


@pytest.fixture
def place(recipe: Recipe, tmp_path: Path) -> list[str]:
    """Arguments that name a recipe of some seconds, and a run's directory with items."""
    long = recipe.model_dump(mode="json")
    long["sft"] |= {"epochs": 15, "save_every": 1000}
    return arguments(long, tmp_path / "run")


def arguments(recipe: dict[str, Any], out: Path) -> list[str]:
    (out / "data").mkdir(parents=True)
    write_items(out / "data/train.jsonl", items(24))
    write_items(out / "data/validation.jsonl", items(30)[24:])
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps(recipe))
    return ["--recipe", str(path), "--out", str(out)]


pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process, whose imports are done, to its end: what it said."""

    def run(command: str, place: list[str], *more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["assistant", command, *place, *more])
        code, said = main(), capfd.readouterr().err
        assert code == 0, said
        return said

    return run


def interrupted_after_a_step(place: list[str]) -> str:
    """Starts the SFT as a process and sends it SIGTERM behind its first step: what it said."""
    line = [sys.executable, "-W", "ignore", "-m", "capstan.jobs.assistant", "sft", *place]
    said = []
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            said.append(text)
            if "step 1 of 60" in text:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == INTERRUPTED, "".join(said)
    return "".join(said)


def history(out: Path) -> list[float]:
    (last,) = (path for path in (out / "sft").glob("*/checkpoint-60"))
    points = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [point["loss"] for point in points if "loss" in point]


def test_sigterm_saves_and_the_same_command_goes_on_to_the_same_losses(
    place: list[str], tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "run"
    assert "the same command goes on" in interrupted_after_a_step(place)
    assert not (out / "adapters").exists()

    said = call("sft", place)
    assert "going on from checkpoint" in said
    recipe = json.loads((tmp_path / "run.yaml").read_text())
    call("sft", arguments(recipe, tmp_path / "whole"))
    assert history(out) == history(tmp_path / "whole")
    ours, theirs = (path / "adapters/sft/adapter_model.safetensors" for path in (out, tmp_path / "whole"))
    assert ours.read_bytes() == theirs.read_bytes()

    run = json.loads((out / "sft/run.json").read_text())
    assert (run["steps"], run["items"], run["recipe"]) == (60, 24, "tiny")
    assert run["tokens"] == json.loads((tmp_path / "whole/sft/run.json").read_text())["tokens"]
    assert run["command"].startswith("python -m capstan.jobs.assistant sft")
    card = (out / "adapters/sft/README.md").read_text()
    assert "## Intended use" in card
    assert "## Limitations" in card
    assert f"| sft | 60 | {run['tokens']:,} |" in card
    assert "Not evaluated yet." in card
    assert "sft: up to date" in call("sft", place)


@pytest.fixture
def tuned(recipe: Recipe, tmp_path: Path, call: Call) -> list[str]:
    """A run whose SFT is done, in seconds."""
    place = arguments(recipe.model_dump(mode="json"), tmp_path / "run")
    call("sft", place)
    return place


def test_dpo_makes_each_variant_and_merge_ships_the_chosen_one(tuned: list[str], tmp_path: Path, call: Call) -> None:
    out = tmp_path / "run"
    pairs = [
        Pair(f"{item.id}#0", "option", item.messages, item.reference, "--wrong", "sampled", "other")
        for item in items(12)
    ]
    (out / "preferences.jsonl").write_text("".join(pair.line() for pair in pairs))
    call("dpo", tuned, "--wandb")
    assert {path.name for path in (out / "adapters").iterdir()} == {"sft", "dpo-steady", "dpo-anchored"}
    runs = {name: json.loads((out / "dpo" / name / "run.json").read_text()) for name in ("steady", "anchored")}
    assert runs["steady"]["margin"] > 0
    assert runs["anchored"]["loss_type"] == "sigmoid+sft"
    assert len([*out.glob("dpo/*/wandb/offline-run-*")]) == 2
    assert "dpo-steady: up to date" in call("dpo", tuned, "--variant", "steady")

    arm = {"pass_rate": 0.5, "pass_ci": [0.4, 0.6], "exact_rate": 0.25}
    figures = {"chosen": "dpo-steady", "prompts": 7, "arms": dict.fromkeys(("base", "sft", "dpo-steady"), arm)}
    (out / "evaluation.json").write_text(json.dumps(figures))
    call("merge", tuned)
    card = (out / "adapters/dpo-steady/README.md").read_text()
    assert "| dpo-steady | 50.0% (40.0% to 60.0%) | 25.0% |" in card
    assert (out / "merged/config.json").is_file()
    assert json.loads((out / "merged/manifest.json").read_text())["arm"] == "dpo-steady"
    assert "merge: up to date" in call("merge", tuned)
    assert "dpo-steady: up to date" in call("dpo", tuned, "--variant", "steady"), "a new card is no new adapter"
    adapter = json.loads((out / "adapters/dpo-steady/manifest.json").read_text())
    assert adapter["files"]["README.md"]["bytes"] == (out / "adapters/dpo-steady/README.md").stat().st_size


def test_other_data_is_another_run(tuned: list[str], tmp_path: Path, call: Call) -> None:
    out = tmp_path / "run"
    before = json.loads((out / "adapters/sft/manifest.json").read_text())["made_from"]
    write_items(out / "data/train.jsonl", items(18))
    call("sft", tuned)
    assert json.loads((out / "adapters/sft/manifest.json").read_text())["made_from"] != before
    assert json.loads((out / "sft/run.json").read_text())["items"] == 18
    assert len([path for path in (out / "sft").iterdir() if path.is_dir()]) == 2, "the old checkpoints stay"
