"""DPO on a tiny Llama, from an SFT adapter: the margin rises, the reference is computed once, and a stop is no loss."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_assistant import WORDS, items

from capstan.jobs.assistant import artifact
from capstan.jobs.assistant.base import adapted, model_of, read_tokenizer
from capstan.jobs.assistant.dpo import dpo_summary, optimize
from capstan.jobs.assistant.pairs import Pair
from capstan.jobs.assistant.recipe import Recipe
from capstan.jobs.assistant.sft import lora
from capstan.jobs.assistant.training import Point, Run

pytestmark = pytest.mark.filterwarnings("ignore")


def pairs() -> list[Pair]:
    return [
        Pair(f"{item.id}#0", "option", item.messages, item.reference, f"--{WORDS[(n + 3) % 10]}", "sampled", "other")
        for n, item in enumerate(items(8))
    ]


@pytest.fixture
def start(recipe: Recipe, tmp_path: Path) -> Path:
    """An adapter that is not the identity, as SFT leaves one."""
    from peft import get_peft_model

    torch.manual_seed(1)
    model = get_peft_model(model_of(recipe, tmp_path), lora(recipe))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    artifact.write(tmp_path / "sft", lambda draft: artifact.save_adapter(model, recipe.base, draft), "", {})
    return tmp_path / "sft"


def train(
    recipe: Recipe, tiny: Path, start: Path, out: Path, variant: str = "steady", **options: Any
) -> tuple[Any, list[Point]] | None:
    model = adapted(model_of(recipe, out), start, trainable=True)
    run = Run("dpo", out / variant, "b" * 20, say=lambda _: None, **options)
    tokenizer = read_tokenizer(tiny, "tiny")
    return optimize(recipe, recipe.dpo[variant], model, tokenizer, pairs(), out / "reference.json", run)


def test_the_margin_rises_from_nothing(recipe: Recipe, tiny: Path, start: Path, tmp_path: Path) -> None:
    done = train(recipe, tiny, start, tmp_path)
    assert done is not None
    model, points = done
    assert points[0]["rewards/margins"] == pytest.approx(0, abs=1e-4), "the reference is the SFT adapter"
    said = dpo_summary(recipe.dpo["steady"], points)
    assert said["margin"] > 0.03
    assert said["reward_accuracy"] > 0.9
    assert said["logps"]["chosen_last"] > said["logps"]["rejected_last"]
    assert said["lengths"]["chosen"] > 0
    assert (said["beta"], said["loss_type"], said["steps"]) == (0.1, "sigmoid", 8)

    artifact.write(tmp_path / "dpo", lambda draft: artifact.save_adapter(model, recipe.base, draft), "", {})
    assert {path.name for path in (tmp_path / "dpo").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"
    }  # fmt: skip
    before, after = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("sft", "dpo"))
    assert before != after


def test_variants_share_the_reference(recipe: Recipe, tiny: Path, start: Path, tmp_path: Path) -> None:
    assert train(recipe, tiny, start, tmp_path)
    known = tmp_path / "reference.json"
    wrong = {name: [0.0, 100.0] for name in json.loads(known.read_text())}
    assert set(wrong) == {pair.id for pair in pairs()}
    known.write_text(json.dumps(wrong))
    done = train(recipe, tiny, start, tmp_path, "anchored")
    assert done is not None
    assert done[1][0]["rewards/margins"] == pytest.approx(10, rel=0.2), "it was read, not computed again"


def test_stopped_and_started_again_it_goes_on_to_the_same_losses(
    recipe: Recipe, tiny: Path, start: Path, tmp_path: Path
) -> None:
    asked = iter([False, False, False, True])
    whole = train(recipe, tiny, start, tmp_path / "whole")
    assert train(recipe, tiny, start, tmp_path / "parts", stop=lambda: next(asked)) is None
    resumed = train(recipe, tiny, start, tmp_path / "parts")
    assert whole is not None
    assert resumed is not None
    for name in ("loss", "rewards/margins", "logps/chosen"):
        assert [p[name] for p in resumed[1] if name in p] == [p[name] for p in whole[1] if name in p]
