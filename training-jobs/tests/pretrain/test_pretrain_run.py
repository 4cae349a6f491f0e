"""The whole job at a small size: from documents to an evaluated artifact with its card, and again for nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("datatrove", reason="requirements/pretrain.txt is not installed")
pytest.importorskip("lm_eval", reason="requirements/pretrain.txt is not installed")

import yaml
from synthetic_corpus import corpus

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain-smoke.yaml"


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """Arguments that name a recipe, a corpus and where to write."""
    made = corpus(tmp_path)
    directory = tmp_path / "corpus"
    directory.mkdir()
    made.rename(directory / "documents.jsonl")
    digest = hashlib.sha256((directory / "documents.jsonl").read_bytes()).hexdigest()
    (directory / "manifest.json").write_text(json.dumps({"documents_sha256": digest}))
    recipe = yaml.safe_load(RECIPE.read_text()) | {"vocabulary": 512}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    out, data = str(tmp_path / "run"), str(tmp_path / "data")
    return ["--recipe", str(tmp_path / "recipe.yaml"), "--out", out, "--data", data, "--corpus", str(directory)]


def call(command: str, places: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "ignore", "-m", "capstan.jobs.pretrain", command, *places, *more]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, "WANDB_SILENT": "true"}, check=False)


@pytest.mark.timeout(600)
def test_from_documents_to_a_card(places: list[str], tmp_path: Path) -> None:
    done = call("run", places, "--wandb")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())["scores"]
    assert set(scores) == {"unigram", "trigram", "capstan-smoke"}
    assert scores["capstan-smoke"]["bits_per_byte"] < scores["unigram"]["bits_per_byte"]
    card = (tmp_path / "run" / "artifact" / "README.md").read_text()
    assert f"| capstan-smoke | {scores['capstan-smoke']['bits_per_byte']:.3f} |" in card
    manifest = json.loads((tmp_path / "run" / "artifact" / "manifest.json").read_text())
    assert manifest["logit_difference"] <= 1e-4
    for name, about in manifest["files"].items():
        content = (tmp_path / "run" / "artifact" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == about["sha256"]
    logged = list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(logged) == 1
    assert b"val_loss" in logged[0].read_bytes()
    trained = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    assert call("train", places).returncode == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["curve"][-1]["step"] == 20
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == trained

    to, report = tmp_path / "results.json", tmp_path / "report.md"
    done = call("results", places, "--ladder", str(tmp_path / "run"), "--to", str(to), "--report", str(report))
    assert done.returncode == 0, done.stderr
    results = json.loads(to.read_text())
    assert results["missing"] == ["ladder", "comparison"]
    assert results["val_bpb"] == scores["capstan-smoke"]["bits_per_byte"]
    assert results["trigram_bpb"] == scores["trigram"]["bits_per_byte"]
    assert (results["params"], results["tokens"]) == (manifest["parameters"], 81920)
    assert f"| held-out bits per byte | {results['val_bpb']:.3f} |" in report.read_text()
    assert "<!-- table:comparison -->\nNot measured yet." in report.read_text()
