"""Recipes: those in the repository are valid, and a mistake is one line with the key."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[3] / "recipes"


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "capstan.jobs.assistant", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("assistant-*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_in_the_repository_are_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.lora.rank <= 16, "what the worker takes"


def test_three_variants_are_tried_and_a_thousand_pairs_asked_for() -> None:
    for name in ("135m-cpu", "8b-gpu"):
        recipe = load_recipe(RECIPES / f"assistant-{name}.yaml")
        assert len(recipe.dpo) >= 3
        assert recipe.preferences.least >= 1000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sft": {"batch": 10, "micro_batch": 4}}, r"sft: .*multiple of micro_batch"),
        ({"sft": {"max_length": 64}}, r"sft.max_length is below data.max_tokens"),
        ({"dpo": {}}, "dpo"),
        ({"dpo": {"a": {"loss": ["sigmoid"], "weights": [1, 2]}}}, r"dpo.a: .*2 weights for 1 losses"),
        ({"dpo": {"a": {"loss": ["simpo"]}}}, r"dpo.a.loss.0"),
        ({"dpo": {"a/b": {}}}, "name is letters"),
        ({"base": "smollm"}, "model reference"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_a_recipe_that_is_wrong_is_named_with_its_key(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    text = yaml.safe_load((RECIPES / "assistant-smoke.yaml").read_text()) | change
    (tmp_path / "r.yaml").write_text(json.dumps(text))
    with pytest.raises(AssistantError, match=said):
        load_recipe(tmp_path / "r.yaml")


def test_what_does_not_shape_the_weights_changes_no_identity(recipe: Recipe) -> None:
    def identity(one: Recipe) -> str:
        return one.identity(one.sft, "data")

    for same in ({"name": "other"}, {"card": "text"}, {"sft": recipe.sft.model_copy(update={"save_every": 1})}):
        assert identity(recipe.model_copy(update=same)) == identity(recipe)
    for other in ({"seed": 18}, {"quantized": True}, {"sft": recipe.sft.model_copy(update={"rate": 1e-4})}):
        assert identity(recipe.model_copy(update=other)) != identity(recipe)
    assert recipe.identity(recipe.sft, "other data") != identity(recipe)


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("data", "run the corpus job first"),
        ("sft", "run the data command first"),
        ("preferences", "run the data command first"),
        ("dpo", "run the sft command first"),
        ("evaluate", "run the sft command first"),
        ("merge", "run the evaluate command first"),
    ],
)
def test_a_step_without_the_one_before_says_which_to_run(tmp_path: Path, command: str, first: str) -> None:
    places = ("--out", tmp_path / "run", "--corpus", tmp_path / "corpus")
    done = call(command, "--recipe", RECIPES / "assistant-smoke.yaml", *places)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert first in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_variant_that_the_recipe_has_not_is_named(tmp_path: Path) -> None:
    done = call("dpo", "--recipe", RECIPES / "assistant-smoke.yaml", "--out", tmp_path, "--variant", "wild")
    assert (done.returncode, done.stderr) == (2, "error: the recipe has no variant wild; it has steady\n")


def test_a_recipe_for_gpus_does_not_start_without_one(tmp_path: Path) -> None:
    import torch

    from capstan.jobs.assistant.base import precision

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(AssistantError, match="needs a GPU"):
        precision(load_recipe(RECIPES / "assistant-8b-gpu.yaml"))
