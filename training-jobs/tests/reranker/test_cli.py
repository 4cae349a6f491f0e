import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.recipe import load_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "reranker.yaml"


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "capstan.jobs.reranker", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_recipe_in_the_repository_is_valid() -> None:
    recipe = load_recipe(RECIPE)
    assert recipe.training.negatives <= recipe.mining.negatives


def test_the_card_and_the_layout_are_no_part_of_the_recipes_hash(tmp_path: Path) -> None:
    changed = yaml.safe_load(RECIPE.read_text()) | {"card": "another text"}
    (tmp_path / "r.yaml").write_text(json.dumps(changed))
    assert load_recipe(tmp_path / "r.yaml").hash == load_recipe(RECIPE).hash
    (tmp_path / "r.yaml").write_text(json.dumps(changed | {"seed": 99}))
    assert load_recipe(tmp_path / "r.yaml").hash != load_recipe(RECIPE).hash


@pytest.mark.parametrize(
    ("text", "said"),
    [("name: x", "Field required"), ("[", "is not YAML"), ("name: x\nnegatives: 3", "negatives|base")],
)
def test_a_recipe_that_is_wrong_is_named_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RerankerError, match=said):
        load_recipe(tmp_path / "r.yaml")


def test_a_step_without_the_one_before_says_which_to_run(tmp_path: Path) -> None:
    for command, first in (("train", "run mine first"), ("export", "run train first"), ("evaluate", "run mine first")):
        extra = () if command == "train" else ("--artifact", tmp_path / "artifact")
        done = call(command, "--recipe", RECIPE, "--out", tmp_path / "run", *extra)
        assert done.returncode == 2
        assert first in done.stderr
        assert "Traceback" not in done.stderr
