from pathlib import Path

import pytest

from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.recipe import RECIPE, Recipe, arm_named, load_recipe

HEAD = "seed: 1\nsingle: [bm25]\nindexes: {default: {}}\nrerankers: {default: {}}\n"


def recipe_of(tmp_path: Path, arms: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{HEAD}arms:\n  default: {{change: all}}\n  bm25: {{change: b, mode: bm25, rerank: null}}\n{arms}")
    return load_recipe(path)


def test_an_arm_changes_one_field_of_its_base_and_keeps_the_rest(tmp_path: Path):
    recipe = recipe_of(
        tmp_path,
        "  deep: {change: d, rerank: {depth: 50}, fusion: {rrf_k: 2}}\n"
        "  both: {base: deep, change: e, rerank: {weight: 0.5}}\n",
    )
    both = recipe.arms["both"]
    assert both.base == "deep"
    assert both.arm.rerank is not None
    assert (both.arm.rerank.depth, both.arm.rerank.weight, both.arm.fusion.rrf_k) == (50, 0.5, 2)
    assert recipe.arms["default"].base is None


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("  x: {change: c, mod: bm25}\n", "mod"),
        ("  x: {change: c, base: nowhere}\n", "'nowhere' does not exist"),
        ("  x: {change: c, base: y}\n  y: {change: c, base: x}\n", "is its own base"),
        ("  x: {change: c, index: other}\n", "no index 'other'"),
        ("  x: {change: c, rerank: {model: other}}\n", "no reranker 'other'"),
        ("  x: {change: c, rerank: {depth: 0}}\n", "rerank.depth"),
        ("  x: {mode: bm25}\n", "change"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, arms: str, message: str):
    with pytest.raises(EvaluateError, match=message):
        recipe_of(tmp_path, arms)


def test_an_arm_can_be_given_inline(tmp_path: Path):
    recipe = recipe_of(tmp_path, "")
    arm = arm_named("mode=dense,rerank=null,fusion.rrf_k=2", recipe).arm
    assert (arm.mode, arm.rerank, arm.fusion.rrf_k) == ("dense", None, 2)


def test_an_unknown_arm_is_answered_with_those_there_are(tmp_path: Path):
    with pytest.raises(EvaluateError, match="name one of default, bm25"):
        arm_named("bm52", recipe_of(tmp_path, ""))


def test_the_recipe_that_is_shipped_has_at_least_ten_changes_of_one_thing():
    recipe = load_recipe(RECIPE)
    compared = [named for named in recipe.arms.values() if named.compare]
    assert len(compared) >= 10
    for named in compared:
        assert named.base is not None
        base = recipe.arms[named.base].arm.model_dump()
        changed = {key for key, value in named.arm.model_dump().items() if value != base[key]}
        assert len(changed) == 1, f"{named.name} changes {sorted(changed)}"
