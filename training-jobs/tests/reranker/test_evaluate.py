import math

import pytest

from capstan.jobs.reranker.candidates import Question
from capstan.jobs.reranker.evaluate import calibration, order, report, supported


def question(gold: str, hybrid: list[str]) -> Question:
    found = {"bm25": hybrid, "dense": list(reversed(hybrid)), "hybrid": hybrid}
    return Question("q", "text", frozenset({gold}), found, [f"about {document}" for document in hybrid])


def test_the_reranker_is_measured_against_the_better_of_the_two_retrievers() -> None:
    result = report([question("c", ["a", "b", "c"])] * 8, [[0.0, 1.0, 2.0]] * 8, [0.0], seed=1)
    assert result["best_single"] == "dense"
    assert result["hybrid"] == pytest.approx(0.5)
    assert result["reranked"] == [{"support": 0.0, "ndcg10": 1.0, "p_vs_best_single": 1.0}]
    assert result["ideal_order"] == 1.0


def test_support_lifts_the_document_with_several_fitting_passages() -> None:
    asked = [question("b", ["a", "b", "b", "c"])] * 8
    rows = report(asked, [[2.0, 1.9, 1.9, 0.0]] * 8, [0.0, 1.0], seed=1)["reranked"]
    assert rows[0]["ndcg10"] < rows[1]["ndcg10"] == 1.0


def test_support_of_nobody_changes_nothing() -> None:
    assert supported([1.0, 2.0], ["a", "b"], 1.0) == [1.0, 2.0]
    assert order([1.0, 3.0, 3.0]) == [1, 2, 0]


def test_calibration_makes_half_the_score_where_both_classes_are_as_likely() -> None:
    questions = [question("a", ["a", "b", "c"])] * 40
    logits = [[4.0 + n % 5, 1.0 + n % 4, 2.0 + n % 3] for n in range(40)]
    slope, shift = calibration(questions, logits)
    score = [1 / (1 + math.exp(-(slope * value + shift))) for value in (2.0, 4.0, 7.0)]
    assert score[0] < 0.25
    assert 0.3 < score[1] < 0.8
    assert score[2] > 0.9


def test_without_a_relevant_passage_the_scale_stays() -> None:
    assert calibration([question("z", ["a", "b"])], [[1.0, 2.0]]) == (1.0, 0.0)
