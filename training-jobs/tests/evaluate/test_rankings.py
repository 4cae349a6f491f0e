import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.rankings import Hit, Rankings
from capstan.jobs.evaluate.recipe import Arm, Fusion, Rerank, load_recipe
from capstan.jobs.evaluate.services import Services

QUESTION = Question("q", "red fox", "fox", "", frozenset({"d2"}), "s", "dev", withhold=False)
Make = Callable[[], Rankings]


@pytest.fixture
def make(search: Any, recipe_file: Path, tmp_path: Path, secret: str) -> Iterator[Make]:
    """Rankings as a new run has them: what is remembered is on disk."""
    search.lists = {mode: ["d1/0", "d1/1", "d2/0", "d3/0"] for mode in ("bm25", "dense", "hybrid")}
    search.texts = {"d1/0": "a dog", "d1/1": "a red fox", "d1/2": "next", "d2/0": "red", "d3/0": "nothing"}
    urls = {"retriever/default": search.url, "reranker/default": search.url}

    recipe = load_recipe(recipe_file)
    with contextlib.ExitStack() as stack:

        def rankings() -> Rankings:
            steps = Steps(Console(file=io.StringIO()))
            services = Services(recipe, tmp_path, tmp_path, secret, urls, steps, sleep=lambda _: None)
            return Rankings(recipe, stack.enter_context(services), tmp_path / "cache")

        yield rankings


def names(hits: list[Hit]) -> list[str]:
    return [hit.chunk for hit in hits]


def test_the_reranker_orders_the_first_chunks_and_the_rest_follow(make: Make):
    hits = make().ranking(Arm(rerank=Rerank(depth=3)), QUESTION)
    assert names(hits) == ["d1/1", "d2/0", "d1/0", "d3/0"]


def test_a_small_weight_keeps_the_retrievers_order(make: Make):
    hits = make().ranking(Arm(rerank=Rerank(depth=3, weight=0.0)), QUESTION)
    assert names(hits) == ["d1/0", "d1/1", "d2/0", "d3/0"]


def test_a_second_run_asks_nothing(make: Make, search: Any):
    first = make().ranking(Arm(), QUESTION)
    before = search.asked()
    assert make().ranking(Arm(), QUESTION) == first
    assert set(search.asked() - before) == {"/v1/index", "/v1/models"}  # is it still the same service?


def test_a_deeper_arm_has_only_the_new_passages_scored(make: Make, search: Any):
    make().ranking(Arm(rerank=Rerank(depth=2, group=False)), QUESTION)
    make().ranking(Arm(rerank=Rerank(depth=4, group=False)), QUESTION)
    assert [len(body["documents"]) for path, body in search.requests if path == "/v1/rerank"] == [2, 2]


def test_passages_that_support_each_other_are_scored_together(make: Make, search: Any):
    make().ranking(Arm(rerank=Rerank(depth=2)), QUESTION)
    make().ranking(Arm(rerank=Rerank(depth=3)), QUESTION)
    make().ranking(Arm(rerank=Rerank(depth=3, weight=0.5)), QUESTION)
    sent = [[d["group"] for d in body["documents"]] for path, body in search.requests if path == "/v1/rerank"]
    assert sent == [["d1", "d1"], ["d1", "d1", "d2"]]


def test_an_interrupted_search_leaves_what_was_found_before(make: Make, search: Any):
    rankings = make()
    rankings.ranking(Arm(mode="bm25", rerank=None), QUESTION)
    search.overloads = 1000
    with pytest.raises(EvaluateError, match="goes on where it stopped"):
        rankings.ranking(Arm(mode="dense", rerank=None), QUESTION)
    search.overloads = 0
    search.requests.clear()
    again = make()
    again.ranking(Arm(mode="bm25", rerank=None), QUESTION)
    again.ranking(Arm(mode="dense", rerank=None), QUESTION)
    assert [body["mode"] for path, body in search.requests if path == "/v1/search"] == ["dense"]


def test_a_search_whose_texts_were_lost_is_asked_again(make: Make, search: Any, tmp_path: Path):
    first = make().ranking(Arm(), QUESTION)
    (texts,) = (tmp_path / "cache/rows").glob("passages-*")
    texts.unlink()
    assert make().ranking(Arm(), QUESTION) == first
    assert search.asked()["/v1/search"] == 2


def test_fusion_does_not_make_two_searches_of_one_bm25_search(make: Make, search: Any):
    rankings = make()
    rankings.ranking(Arm(mode="bm25", rerank=None), QUESTION)
    rankings.ranking(Arm(mode="bm25", rerank=None, fusion=Fusion(rrf_k=2)), QUESTION)
    rankings.ranking(Arm(rerank=None), QUESTION)
    rankings.ranking(Arm(rerank=None, fusion=Fusion(rrf_k=2)), QUESTION)
    assert search.asked()["/v1/search"] == 3


def test_a_busy_service_is_asked_again(make: Make, search: Any):
    search.overloads = 2
    assert names(make().ranking(Arm(rerank=None), QUESTION))[0] == "d1/0"


def test_dense_figures_of_a_half_embedded_index_are_refused(make: Make, search: Any):
    search.coverage = 0.5
    with pytest.raises(EvaluateError, match=r"50\.0% of its chunks"):
        make().ranking(Arm(rerank=None), QUESTION)
    assert make().ranking(Arm(mode="bm25", rerank=None), QUESTION)


def test_evidence_is_the_best_passages_widened_while_the_budget_lasts(make: Make, search: Any):
    rankings = make()
    hits = rankings.ranking(Arm(rerank=None), QUESTION)
    assert rankings.evidence(Arm(rerank=None), hits) == ["a dog", "a red fox"]
    assert rankings.evidence(Arm(rerank=None, neighbours=1), hits) == ["a dog", "a red fox", "next"]


def test_a_passage_too_long_for_the_budget_is_cut_and_nothing_follows(make: Make, search: Any):
    search.texts["d1/1"] = "x" * 1000
    rankings = make()
    arm = Arm(rerank=None, neighbours=1)
    assert [len(text) for text in rankings.evidence(arm, rankings.ranking(arm, QUESTION))] == [5, 251]  # 256 together


def test_the_reference_ranks_the_same_chunks_by_its_own_bm25(make: Make, search: Any):
    hits = make().ranking(Arm(mode="rank-bm25", rerank=None), QUESTION)
    assert names(hits)[0] == "d1/1"
    assert search.asked()["/v1/search"] == 0
