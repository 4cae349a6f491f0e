"""`make assistant RECIPE=smoke`: from documents to an evaluated adapter and merged weights, on the real base model.

Its worker answers with the trained adapters by name: sampling and evaluation are served by a real vLLM.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.vllm


def make(out: Path) -> str:
    line = ["make", "assistant", "RECIPE=smoke", f"ARGS=--out {out}"]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.timeout(1800)
def test_from_documents_to_an_evaluated_adapter_and_again_for_nothing(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    make(tmp_path / "run")
    out = tmp_path / "run"
    found = json.loads((out / "evaluation.json").read_text())
    assert set(found["arms"]) == {"base", "sft", "dpo-steady"}
    assert found["prompts"] >= 20
    assert found["arms"]["sft"]["pass_rate"] >= found["arms"]["base"]["pass_rate"]
    pairs = json.loads((out / "preferences.json").read_text())
    assert pairs["used"]["pairs"] >= 4
    assert "difference_tokens" in pairs["found"]
    adapter = out / "adapters" / found["chosen"]
    assert sum(path.stat().st_size for path in adapter.iterdir()) < 25e6
    card = (adapter / "README.md").read_text()
    assert f"| {found['chosen']} | {found['arms'][found['chosen']]['pass_rate']:.1%} (" in card
    assert (out / "merged/model.safetensors").is_file()

    said = make(out)
    for done in ("data: up to date", "sft: up to date", "preferences: up to date", "dpo-steady: up to date"):
        assert done in said
    assert json.loads((out / "evaluation.json").read_text())["arms"] == found["arms"]
