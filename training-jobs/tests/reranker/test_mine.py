"""Queries and hard negatives: what may be trained on, and what may not."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.labels import Labels
from capstan.jobs.reranker.mine import PAIRS, make_examples, mine, mine_all
from capstan.jobs.reranker.queries import Example, normal
from capstan.jobs.reranker.recipe import Recipe


def result(document: str, score: float = 0.5, n: int = 0) -> dict[str, Any]:
    return {
        "id": f"{document}/{n}",
        "document_id": document,
        "title": document.upper(),
        "heading": ["Part"],
        "text": f"text {n} of {document}",
        "score": score,
    }


FOUND = [result("own", 0.6), *(result(name, 0.5) for name in "abcd"), result("a", 0.4, 1), result("a", 0.3, 2)]
EXAMPLE = Example("task", "how do i open a file", "own", "OWN > Part\ntext")


def test_no_labelled_question_becomes_a_query(
    recipe: Recipe, documents: list[dict[str, Any]], labels_dir: Path
) -> None:
    examples = make_examples(recipe, documents, Labels(labels_dir))
    queries = {normal(example.query) for example in examples}
    assert "how can i open a file safely" in queries  # a heading that nobody evaluates with
    assert not {"how do i lock a file", "in perl how do i lock a file"} & queries  # planted in the test split


def test_known_item_queries_stay_out_too(recipe: Recipe, documents: list[dict[str, Any]], labels_dir: Path) -> None:
    (labels_dir / "known_items.jsonl").write_text(json.dumps({"question": "How can I open a file safely?"}) + "\n")
    queries = {normal(e.query) for e in make_examples(recipe, documents, Labels(labels_dir))}
    assert "how can i open a file safely" not in queries


def test_the_same_recipe_makes_the_same_examples(
    recipe: Recipe, documents: list[dict[str, Any]], labels_dir: Path
) -> None:
    assert make_examples(recipe, documents, Labels(labels_dir)) == make_examples(recipe, documents, Labels(labels_dir))


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(RerankerError, match=r"questions\.jsonl cannot be read"):
        Labels(tmp_path).forbidden()


def test_negatives_are_of_other_documents_and_read_as_at_work(recipe: Recipe) -> None:
    mining = recipe.mining.model_copy(update={"negatives": 4})
    pair = mine(EXAMPLE, lambda *_: FOUND, mining, _random())
    assert pair is not None
    assert {n["document"] for n in pair["negatives"]} <= set("abcd")
    assert all(n["passage"].startswith(f"{n['document'].upper()} > Part\ntext") for n in pair["negatives"])


def test_a_query_whose_document_is_not_found_is_dropped(recipe: Recipe) -> None:
    lost = dataclasses.replace(EXAMPLE, document="elsewhere")
    assert mine(lost, lambda *_: FOUND, recipe.mining, _random()) is None


def test_a_passage_much_closer_than_the_positive_is_no_negative(recipe: Recipe) -> None:
    closer = [result("e", 0.9), *FOUND]
    for seed in range(20):
        pair = mine(EXAMPLE, lambda *_: closer, recipe.mining, _random(seed))
        assert pair is not None
        assert "e" not in {n["document"] for n in pair["negatives"]}


def test_mining_goes_on_where_it_was_interrupted(recipe: Recipe, tmp_path: Path) -> None:
    examples = [dataclasses.replace(EXAMPLE, query=f"query {n}") for n in range(150)]
    calls = 0

    def failing(*_: object) -> list[dict[str, Any]]:
        nonlocal calls
        calls += 1
        if calls > 200:
            raise RerankerError("the retriever went away")
        return FOUND

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    mine_all(examples, lambda *_: FOUND, recipe, whole, lambda _: None)
    with pytest.raises(RerankerError):
        mine_all(examples, failing, recipe, broken, lambda _: None, threads=1)
    with (broken / PAIRS).open("a") as file:
        file.write('{"half written')
    assert mine_all(examples, lambda *_: FOUND, recipe, broken, lambda _: None) == 150
    assert (broken / PAIRS).read_text() == (whole / PAIRS).read_text()


def _random(seed: int = 1) -> Any:
    import random

    return random.Random(seed)
