"""Feedback: what is recorded, and what it says of the arms."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from capstan.generator.feedback import sign_test, wilson


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (8, 2, 0.109375), (3, 3, 1.0), (15, 5, 0.04138946533203125)],
)
def test_the_sign_test_gives_the_binomial_tables_values(wins: int, losses: int, p: float) -> None:
    assert sign_test(wins, losses) == p
    assert sign_test(losses, wins) == p


def test_the_sign_test_holds_for_many_clicks() -> None:
    wins, losses = 5150, 4850
    z = (abs(wins - losses) - 1) / math.sqrt(wins + losses)
    normal = math.erfc(z / math.sqrt(2))  # with continuity correction, close for such an n
    assert sign_test(wins, losses) == pytest.approx(normal, rel=1e-3)


@pytest.mark.parametrize(
    ("successes", "n", "interval"),
    [
        (0, 10, (0.0, 0.2775328)),
        (5, 10, (0.2365931, 0.7634069)),
        (9, 10, (0.5958500, 0.9821238)),
        (10, 10, (0.7224672, 1)),
    ],
)
def test_wilsons_interval_gives_known_values(successes: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson(successes, n) == pytest.approx(interval, abs=1e-6)


def test_without_observations_there_is_no_interval() -> None:
    assert wilson(0, 0) is None


async def _give(setup: Any, **body: Any) -> Any:
    return await setup.client.post("/v1/feedback", json=body)


async def _report(setup: Any) -> Any:
    response = await setup.client.get("/v1/feedback/report")
    assert response.status_code == 200
    return response.json()


async def _answer(setup: Any, **extra: Any) -> str:
    return str((await setup.ask(**extra)).json()["id"])


async def test_thumbs_are_counted_by_arm_once_an_answer(generator: Any) -> None:
    setup = await generator()
    first, second = await _answer(setup), await _answer(setup)
    other = await _answer(setup, model="docs:bm25")
    for answer, kind in ((first, "up"), (first, "up"), (second, "down"), (second, "up"), (other, "down")):
        assert (await _give(setup, answer_id=answer, kind=kind)).status_code == 200
    thumbs = {row["arm"]: (row["up"], row["down"], row["share_up"]) for row in (await _report(setup))["thumbs"]}
    assert thumbs == {"default": (2, 0, 1.0), "bm25": (0, 1, 0.0)}  # a thumb replaces the other


async def test_a_scrape_counts_feedback_and_no_repeats(generator: Any, metric: Any) -> None:
    setup = await generator()
    answer = await _answer(setup)
    for kind in ("up", "up", "down"):
        await _give(setup, answer_id=answer, kind=kind)
    for _ in range(2):
        await _give(setup, answer_id=answer, kind="click", chunk_id="c1")
    assert (await _give(setup, answer_id="unknown", kind="up")).status_code == 404
    shown = {kind: await metric(setup, "feedback_total", kind=kind) for kind in ("up", "down", "click")}
    assert shown == {"up": 1, "down": 1, "click": 1}


async def test_a_comment_stays_when_the_thumb_is_sent_again(generator: Any, tmp_path: Path) -> None:
    setup = await generator()
    answer = await _answer(setup)
    await _give(setup, answer_id=answer, kind="up")
    await _give(setup, answer_id=answer, kind="up", comment="just right")
    await _give(setup, answer_id=answer, kind="up")
    db = sqlite3.connect(tmp_path / "records/records.sqlite3")
    assert db.execute("SELECT kind, comment FROM feedback").fetchall() == [("up", "just right")]
    db.close()


ARMS = "x: {options: {mode: bm25, rerank: false}}\nw: {options: {mode: dense, rerank: false}}\n"


@pytest.fixture
async def two_arms(generator: Any, tmp_path: Path) -> Any:
    """A generator with the arms `x` and `w`, which are `bm25` and `dense` to the retriever."""
    path = tmp_path / "arms.yaml"
    path.write_text(ARMS)
    return await generator(arms_file=path)


async def _interleave(setup: Any, a: str, b: str) -> Any:
    return (await setup.client.post("/v1/interleave", json={"query": "q", "a": a, "b": b})).json()


async def test_clicks_say_which_arm_is_better(two_arms: Any, new_result: Any) -> None:
    found = {"bm25": [new_result(n, "t") for n in range(3)], "dense": [new_result(n, "t") for n in range(3, 6)]}
    two_arms.neighbours.results_by_mode = found
    whose = {r["id"]: arm for arm, mode in (("x", "bm25"), ("w", "dense")) for r in found[mode]}
    for clicked, (a, b) in (("x", "xw"), ("w", "wx"), ("w", "xw"), ("", "xw"), ("xw", "xw")):
        body = await _interleave(two_arms, a, b)
        for arm in clicked:
            chunk = next(r["id"] for r in body["results"] if whose[r["id"]] == arm)
            for _ in range(3):  # the same click counts once
                given = await _give(two_arms, interleaving_id=body["id"], kind="click", chunk_id=chunk)
                assert given.status_code == 200
    (pair,) = (await _report(two_arms))["pairs"]
    counts = {"impressions": 5, "clicks_a": 3, "clicks_b": 2, "wins_a": 2, "wins_b": 1, "ties": 1, "p_value": 1.0}
    assert pair == {"a": "w", "b": "x", **counts}


async def test_a_click_on_what_no_team_drafted_is_credited_to_none(two_arms: Any, new_result: Any) -> None:
    two_arms.neighbours.results_by_mode = {"bm25": [], "dense": [new_result(1, "t")]}
    body = await _interleave(two_arms, "x", "w")
    given = await _give(two_arms, interleaving_id=body["id"], kind="click", chunk_id="c1")
    assert given.status_code == 200
    (pair,) = (await _report(two_arms))["pairs"]
    assert (pair["impressions"], pair["clicks_a"], pair["clicks_b"], pair["ties"]) == (1, 0, 0, 0)


async def test_a_source_can_be_clicked_and_rated(generator: Any) -> None:
    setup = await generator()
    answer = await _answer(setup)
    assert (await _give(setup, answer_id=answer, kind="click", chunk_id="c0")).status_code == 200
    assert (await _give(setup, answer_id=answer, kind="down", chunk_id="c0")).status_code == 200
    assert (await _report(setup))["thumbs"] == []  # they are of the source, not of the answer


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"kind": "up"}, 400, "answer_id"),
        ({"kind": "up", "answer_id": "x", "interleaving_id": "y"}, 400, "either"),
        ({"kind": "meh", "answer_id": "x"}, 400, "kind"),
        ({"kind": "click", "answer_id": "x"}, 400, "chunk_id"),
        ({"kind": "up", "interleaving_id": "x"}, 400, "clicks only"),
        ({"kind": "up", "answer_id": "x", "stars": 5}, 400, "stars"),
        ({"kind": "up", "answer_id": "x", "comment": "x" * 1001}, 400, "comment"),
        ({"kind": "up", "answer_id": "nobody's"}, 404, "no answer"),
        ({"kind": "click", "interleaving_id": "nobody's", "chunk_id": "c0"}, 404, "no interleaving"),
    ],
)
async def test_mistakes_are_said(generator: Any, body: dict[str, Any], status: int, says: str) -> None:
    setup = await generator()
    response = await _give(setup, **body)
    assert (response.status_code, says in response.json()["error"]["message"]) == (status, True), response.text


async def test_feedback_on_what_was_not_shown_is_refused(generator: Any) -> None:
    setup = await generator()
    response = await _give(setup, answer_id=await _answer(setup), kind="click", chunk_id="c99")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "chunk_id")


async def test_with_a_deleted_answer_its_feedback_goes(generator: Any) -> None:
    setup = await generator()
    answer = await _answer(setup)
    await _give(setup, answer_id=answer, kind="up")
    await setup.client.delete(f"/v1/answers/{answer}")
    assert (await _report(setup))["thumbs"] == []
    assert (await _give(setup, answer_id=answer, kind="up")).status_code == 404
