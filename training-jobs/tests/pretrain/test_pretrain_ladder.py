"""The ladder and the comparison train each variant once, on the same rows, and go on after a stop."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="requirements/reranker.txt is not installed")
pytest.importorskip("scipy", reason="requirements/pretrain.txt is not installed")

from capstan.jobs.pretrain.ladder import Bench, Stopped, climb, compare
from capstan.jobs.pretrain.pack import Rows
from capstan.jobs.pretrain.recipe import Ladder, Recipe
from capstan.jobs.pretrain.train import Run
from capstan.jobs.pretrain.world import ALONE

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours


@pytest.fixture
def small(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"ladder": Ladder(depths=(1, 2), tokens=(1024, 4096, 8192))})


@pytest.fixture
def rows(rows_dir: Path) -> tuple[Rows, Rows]:
    return Rows(rows_dir / "train.bin"), Rows(rows_dir / "validation.bin")


def trained(said: list[str]) -> int:
    return sum("bits per byte" in line for line in said)


def test_each_rung_is_trained_once(small: Recipe, rows: tuple[Rows, Rows], tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench(320, rows, Run(tmp_path, ALONE, said.append))
    found = climb(small, bench)
    by_depth = {depth: [r["bits_per_byte"] for r in found["runs"] if r["depth"] == depth] for depth in (1, 2)}
    assert trained(said) == 6
    assert all(losses == sorted(losses, reverse=True) for losses in by_depth.values())
    assert found["runs"][-1]["parameters"] > found["runs"][0]["parameters"]
    assert climb(small, bench) == found
    assert trained(said) == 6


def test_a_stopped_ladder_keeps_what_is_done(small: Recipe, rows: tuple[Rows, Rows], tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(Stopped):
        climb(small, Bench(320, rows, Run(tmp_path, ALONE, said.append, stop=lambda: trained(said) == 2)))
    climb(small, Bench(320, rows, Run(tmp_path, ALONE, said.append)))
    assert trained(said) == 6


def test_both_recipes_train_on_the_same_tokens(small: Recipe, rows: tuple[Rows, Rows], tmp_path: Path) -> None:
    found = compare(small, Bench(320, rows, Run(tmp_path, ALONE, lambda _: None)), rows[0])
    runs = found["runs"]
    assert {"ours", "nanogpt", "ours, embeddings tied"} <= set(runs)
    assert len({(run["tokens"], run["depth"], run["width"]) for run in runs.values()}) == 1
    assert runs["ours"]["bits_per_byte"] != runs["nanogpt"]["bits_per_byte"]
    assert set(found["nanogpt_rates"]) == {"0.001", "0.003", "0.006"}
    assert found["tokens_s"].keys() == found["tokens_core_s"].keys()
    assert all(speed > 0 for speed in found["tokens_s"].values())
