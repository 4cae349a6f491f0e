"""Training on a tiny model: it learns, it resumes to the same losses, and its export computes the same."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="requirements/reranker.txt is not installed")

from capstan.common.cross_encoder import CrossEncoder
from capstan.jobs.reranker.candidates import Question
from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.export import MANIFEST, export
from capstan.jobs.reranker.model import start_from
from capstan.jobs.reranker.pairs import Group, batches, collate, count_batches, tokenize
from capstan.jobs.reranker.recipe import Recipe
from capstan.jobs.reranker.train import Run, train

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
CLS, SEP = 2, 3


@pytest.fixture
def groups() -> list[Group]:
    """The positive repeats the query's word, negatives do not."""
    rng = random.Random(0)
    words = list(range(4, 20))
    found = []
    for _ in range(24):
        word, other, third = rng.sample(words, 3)
        found.append(Group([word] * 3, [[word] * 6, [other] * 6, [third] * 9]))
    return found


def run(base: Path, groups: list[Group], recipe: Recipe, out: Path, stop_after: int | None = None) -> Run:
    out.mkdir(exist_ok=True)
    steps = Run(out, say=lambda _: None, now=lambda: 0.0)
    steps.stop = lambda: len(steps.losses) == stop_after
    finished = train(base, groups, recipe, (CLS, SEP), steps)
    assert finished is (stop_after is None)
    return steps


def test_a_stopped_run_goes_on_to_the_same_losses_and_weights(
    base_dir: Path, groups: list[Group], recipe: Recipe, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    whole = run(base_dir, groups, recipe, tmp_path / "whole")
    run(base_dir, groups, recipe, tmp_path / "parts", stop_after=5)
    resumed = run(base_dir, groups, recipe, tmp_path / "parts")
    assert len(whole.losses) == count_batches(len(groups), recipe.training.batch_queries, 1) == 12
    assert resumed.losses == whole.losses
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts")]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


def test_training_lowers_the_loss(base_dir: Path, groups: list[Group], recipe: Recipe, tmp_path: Path) -> None:
    longer = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 12, "keep": 0.0})})
    losses = run(base_dir, groups, longer, tmp_path / "run").losses
    assert sum(losses[-12:]) < 0.8 * sum(losses[:12])


def test_a_checkpoint_of_another_recipe_is_refused(
    base_dir: Path, groups: list[Group], recipe: Recipe, tmp_path: Path
) -> None:
    run(base_dir, groups, recipe, tmp_path / "run", stop_after=2)
    with pytest.raises(RerankerError, match="another recipe or other pairs"):
        train(base_dir, groups, recipe.model_copy(update={"seed": 5}), (CLS, SEP), Run(tmp_path / "run"))


def test_a_pair_is_cut_to_the_limit_and_the_passage_is_segment_one() -> None:
    batch = collate([Group([7, 8], [[9] * 20, [10]])], CLS, SEP, 9)
    assert batch.ids.tolist() == [[2, 7, 8, 3, 2, 9, 9, 9, 3], [2, 7, 8, 3, 2, 10, 3, 0, 0]]
    assert batch.segments.tolist() == [[0] * 4 + [1] * 5, [0] * 4 + [1] * 3 + [0] * 2]
    assert batch.places[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert batch.mask.tolist() == [[1] * 9, [1] * 7 + [0] * 2]
    assert batch.words[1].tolist() == [False, True, True, False, False, True, False, False, False]


def test_every_query_is_seen_once_in_each_epoch(groups: list[Group]) -> None:
    numbered = [Group([n], group.passages) for n, group in enumerate(groups)]
    seen = [
        int(row[1])
        for batch in batches(numbered, CLS, SEP, size=5, limits=[32], epochs=2, seed=1)
        for row in batch.ids[::3]
    ]
    assert sorted(seen) == sorted([*range(24), *range(24)])


def test_too_few_negatives_are_named(base_dir: Path) -> None:
    from tokenizers import Tokenizer

    pair = {"query": "open", "passage": "open a file", "negatives": []}
    with pytest.raises(RerankerError, match="0 negatives"):
        tokenize([pair], Tokenizer.from_file(str(base_dir / "tokenizer.json")), negatives=2, longest=9)


def question(name: str, text: str, gold: str, passages: list[str]) -> Question:
    found = {mode: ["x", "y"] for mode in ("bm25", "dense", "hybrid")}
    return Question(name, text, frozenset({gold}), found, passages)


QUESTIONS = [
    question("a", "open a file", "x", ["open", "read the socket"]),
    question("b", "close socket", "y", ["write", "perl > close"]),
]


def exported(base: Path, groups: list[Group], recipe: Recipe, out: Path) -> dict[str, Any]:
    run(base, groups, recipe, out)
    return export(
        out / "model",
        out / "start",
        base / "tokenizer.json",
        out / "artifact",
        QUESTIONS,
        lambda quality, size: (f"{size} {quality['questions']}", {"name": "tiny"}),
        recipe,
    )


def test_the_export_orders_and_scales_as_the_trained_model_does(
    base_dir: Path, groups: list[Group], recipe: Recipe, tmp_path: Path
) -> None:
    """Scores of the int8 graph are a rising line of PyTorch's logits, which calibration chose."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    exported(base_dir, groups, recipe, tmp_path / "run")
    model = start_from(base_dir, recipe.training, torch.float32, seed=9).eval()
    trained = load_file(tmp_path / "run" / "model" / "model.safetensors")
    model.load_state_dict({name.removeprefix("head."): value for name, value in trained.items()})
    graph = CrossEncoder(tmp_path / "run" / "artifact", passage_tokens=32)
    rng = random.Random(4)
    ours, theirs = [], []
    for _ in range(40):
        query, passage = ([rng.randrange(4, 20) for _ in range(count)] for count in (4, 12))
        ours.append(graph.logit(*graph.pair(query, passage)))
        with torch.inference_mode():
            theirs.append(model(collate([Group(query, [passage])], CLS, SEP, 64)).item())
    line = np.polyfit(theirs, ours, 1)
    assert np.corrcoef(theirs, ours)[0, 1] > 0.98
    assert np.abs(np.polyval(line, theirs) - ours).max() < 0.25 * np.std(ours)


def test_the_manifest_holds_the_hash_of_every_file(
    base_dir: Path, groups: list[Group], recipe: Recipe, tmp_path: Path
) -> None:
    exported(base_dir, groups, recipe, tmp_path / "run")
    artifact = tmp_path / "run" / "artifact"
    manifest = json.loads((artifact / MANIFEST).read_text())
    assert (
        set(manifest["files"])
        == set(os.listdir(artifact)) - {MANIFEST}
        == {
            "README.md",
            "config.json",
            "model.onnx",
            "tokenizer.json",
        }
    )


def test_an_export_replaces_the_one_before_as_a_whole(
    base_dir: Path, groups: list[Group], recipe: Recipe, tmp_path: Path
) -> None:
    artifact = tmp_path / "run" / "artifact"
    artifact.mkdir(parents=True)
    (artifact / "stale").write_text("of an earlier export")
    exported(base_dir, groups, recipe, tmp_path / "run")
    assert not (artifact / "stale").exists()
    assert sorted(os.listdir(tmp_path / "run")) == ["artifact", "checkpoint.pt", "model", "start"]
