from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.jobs.evaluate import abstention
from capstan.jobs.evaluate.abstention import Scored, auroc, calibrate, curve, recommend
from capstan.jobs.evaluate.asking import Answer


def answer(
    id_: str, condition: Literal["given", "withheld"], mode: str, relevance: float | None = 0.5, **more: Any
) -> Answer:
    details = {"mode": mode, "relevance": relevance, "reranked": True}
    return Answer(f"{id_}-{condition}", id_, condition, "docs", "?", details=details, **more)


def test_precision_and_recall_by_hand() -> None:
    """Abstained on three: two of the three unanswerable ones and one of the three answerable ones."""
    found = abstention.score(
        [
            answer("a", "given", "generated"),
            answer("b", "given", "abstained"),
            answer("c", "given", "extractive"),
            answer("a", "withheld", "abstained"),
            answer("b", "withheld", "abstained"),
            answer("d", "withheld", "generated"),
            answer("e", "withheld", "generated", error="503"),
        ],
        {id_: {"gold"} for id_ in "abcde"},
        seed=1,
    )
    assert found["precision"]["value"] == round(2 / 3, 4)
    assert found["recall"]["value"] == round(2 / 3, 4)
    assert found["false_abstention"]["value"] == round(1 / 3, 4)
    assert (found["n"], found["n_scored"], found["n_failed"], found["n_abstained"]) == (7, 6, 1, 3)
    assert found["pairs"]["questions"] == 2
    assert found["pairs"]["precision"]["n"] == 3


def test_by_evidence_an_abstention_is_right_where_no_gold_passage_was_found() -> None:
    """Given, abstained, without gold: right. Given, abstained, with gold: wrong."""
    missed = answer("a", "given", "abstained")
    held = answer("b", "given", "abstained")
    held.details["sources"] = [{"document_id": "gold"}]
    found = abstention.score([missed, held], {"a": {"gold"}, "b": {"gold"}}, seed=1)
    assert found["precision"]["value"] == 0
    assert found["by_evidence"]["precision"]["value"] == 0.5
    assert found["by_evidence"]["recall"]["value"] == 1.0


def test_who_never_abstains_has_no_precision() -> None:
    found = abstention.score(
        [answer("a", "given", "generated"), answer("a", "withheld", "generated")], {"a": set()}, seed=1
    )
    assert found["precision"]["value"] is None
    assert found["recall"]["value"] == 0.0


def test_threshold_by_hand() -> None:
    """Scores .1u .2u .3a .4u .5a .6a: under .3 all are unanswerable (recall 2/3), under .5 three of four."""
    rows = [
        answer(str(n), "withheld" if kind == "u" else "given", "extractive", score)
        for n, (score, kind) in enumerate([(0.1, "u"), (0.2, "u"), (0.3, "a"), (0.4, "u"), (0.5, "a"), (0.6, "a")])
    ]
    found = calibrate(abstention.scores(rows), 0.85)
    assert found["recommended"] is not None
    assert found["recommended"]["min_relevance"] == pytest.approx(0.25)
    assert found["recommended"]["recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["auroc"] == round(8 / 9, 4)
    looser = calibrate(abstention.scores(rows), 0.75)["recommended"]
    assert looser is not None
    assert looser["recall"] == 1.0
    assert looser["min_relevance"] == pytest.approx(0.45)


def test_no_threshold_is_precise_enough() -> None:
    rows = [answer("a", "given", "extractive", 0.1), answer("b", "withheld", "extractive", 0.9)]
    assert calibrate(abstention.scores(rows))["recommended"] is None


def test_answers_in_the_retrievers_order_have_no_score_to_calibrate() -> None:
    down = Answer("k", "a", "given", "docs", "?", details={"mode": "generated", "relevance": 0.4, "reranked": False})
    assert abstention.scores([down, answer("b", "given", "generated", None)]) == []


ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(lambda n: n / 8)), min_size=1, max_size=40).map(
    lambda pairs: [Scored(str(n), unanswerable, score) for n, (unanswerable, score) in enumerate(pairs)]
)


@given(ROWS)
def test_recall_and_false_abstention_grow_with_the_threshold(rows: list[Scored]) -> None:
    points = curve(rows)
    for name in ("recall", "false_abstention", "abstained"):
        values = [point[name] for point in points]
        assert values == sorted(values)
    assert all(0 <= point["precision"] <= 1 for point in points)


@given(ROWS)
def test_the_recommended_threshold_keeps_its_promise(rows: list[Scored]) -> None:
    best = recommend(curve(rows), 0.8)
    if best is None:
        return
    abstained = [row for row in rows if row.relevance < best["min_relevance"]]
    assert sum(row.unanswerable for row in abstained) / len(abstained) >= 0.8
    assert all(p["recall"] <= best["recall"] for p in curve(rows) if p["precision"] >= 0.8)


@given(ROWS)
def test_auroc_turns_around_with_the_labels(rows: list[Scored]) -> None:
    area = auroc(rows)
    other = auroc([Scored(r.id, not r.unanswerable, r.relevance) for r in rows])
    if area is None:
        assert other is None
    else:
        assert other is not None
        assert area + other == pytest.approx(1)
