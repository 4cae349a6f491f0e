"""Team-draft interleaving: the draft itself, and two arms behind `/v1/interleave`."""

import itertools
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.generator.interleave import team_draft

rankings = st.lists(st.integers(0, 20), unique=True, max_size=12)


@given(rankings, rankings, st.integers())
def test_each_team_drafts_in_its_order_and_by_turns(a: list[int], b: list[int], seed: int) -> None:
    mixed = team_draft(a, b, random.Random(seed))
    items = [item for item, _ in mixed]
    assert sorted(items) == sorted({*a, *b})  # all of both, none twice
    for team, ranking in (("a", a), ("b", b)):
        drafted = [item for item, owner in mixed if owner == team]
        assert drafted == [item for item in ranking if item in drafted]
    sizes = Counter[str]()
    for position, (item, owner) in enumerate(mixed):
        if owner is None:
            rest = set(items[position:])
            assert rest.isdisjoint(a) or rest.isdisjoint(b)  # one of them has nothing left to pick
            assert all(owner is None for _, owner in mixed[position:])
            break
        own = a if owner == "a" else b
        before = set(items[:position])
        assert item == next(i for i in own if i not in before)  # its best that was left
        sizes[owner] += 1
        assert abs(sizes["a"] - sizes["b"]) <= 1


@given(rankings, rankings, st.integers(), st.integers(0, 30))
def test_a_limit_cuts_the_list_and_changes_nothing_else(a: list[int], b: list[int], seed: int, limit: int) -> None:
    assert team_draft(a, b, random.Random(seed), limit) == team_draft(a, b, random.Random(seed))[:limit]


def test_the_coin_is_fair_and_thrown_in_each_round() -> None:
    rng = random.Random(1)
    first = Counter(tuple(team for _, team in team_draft("wxyz", "stuv", rng)[::2][:2]) for _ in range(4000))
    assert set(first) == set(itertools.product("ab", repeat=2))
    assert all(900 < count < 1100 for count in first.values())


def test_what_only_the_longer_list_has_is_shown_without_a_team() -> None:
    assert team_draft("x", "xyz", random.Random(0))[1:] == [("y", None), ("z", None)]
    assert team_draft("", "yz", random.Random(0)) == [("y", None), ("z", None)]


ARMS = """
words: {options: {mode: bm25, rerank: false}}
vectors: {options: {mode: dense, rerank: false}}
both: {}
"""


@pytest.fixture
async def arms(generator: Any, tmp_path: Any, new_result: Any) -> Any:
    """A generator with the arms `words`, `vectors` and `both`; five chunks are found."""
    path = tmp_path / "arms.yaml"
    path.write_text(ARMS)
    setup = await generator(arms_file=path)
    setup.neighbours.results = [new_result(n, f"text {n}") for n in range(5)]
    return setup


async def _interleave(setup: Any, **fields: Any) -> Any:
    return await setup.client.post("/v1/interleave", json={"query": "pipe", "a": "words", "b": "vectors", **fields})


async def test_both_arms_search_and_nothing_tells_them_apart(arms: Any) -> None:
    response = await _interleave(arms, limit=4)
    body = response.json()
    assert (response.status_code, len(body["results"])) == (200, 4)
    assert {search["mode"] for search in arms.neighbours.searches} == {"bm25", "dense"}
    assert {search["query"] for search in arms.neighbours.searches} == {"pipe"}
    assert set(body) == {"id", "results"}
    fields = {"id", "document_id", "chunk_index", "title", "heading", "text", "url", "source", "license"}
    assert all(set(result) == fields for result in body["results"])  # no team, and no score to guess it from
    assert "words" not in response.text
    assert arms.neighbours.tenants == ["acme/generator"] * 2


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"a": "nothing"}, 404, "the arms are"),
        ({"b": "words"}, 400, "the same arm"),
        ({"query": ""}, 400, "query"),
        ({"query": "  "}, 400, "empty"),
        ({"limit": 0}, 400, "limit"),
        ({"teams": True}, 400, "teams"),
    ],
)
async def test_mistakes_are_said(arms: Any, fields: dict[str, Any], status: int, says: str) -> None:
    response = await _interleave(arms, **fields)
    assert (response.status_code, says in response.json()["error"]["message"]) == (status, True)


async def test_an_arm_without_its_reranker_is_not_compared(arms: Any) -> None:
    arms.neighbours.rerank_status = 500
    response = await _interleave(arms, b="both")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "reranker_unavailable")
