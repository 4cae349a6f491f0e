"""Who wins: the rule, its symmetry, and what length has to do with it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.similarity import similarity
from capstan.jobs.assistant.winrate import Outcome, length_controlled, outcome, step, win_rate

ITEM = Item("i", "git", "s", ({"role": "user", "content": "?"},), "git log --name-only -- FILE", {})
TEXTS = st.text(alphabet="ab -=/.\n", max_size=30) | st.sampled_from(["git log", "git log --name-only", ITEM.reference])
PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(-200, 200)), min_size=2, max_size=60)


def outcomes(pairs: list[tuple[float, int]]) -> list[Outcome]:
    return [Outcome(won, "checker", longer) for won, longer in pairs]


@pytest.mark.parametrize(
    ("first", "second", "passed", "won", "by"),
    [
        ("git log --name-only", "git log -- FILE", (True, False), 1.0, "checker"),
        ("git log --name-only -- FILE", "git show", (False, True), 0.0, "checker"),
        ("git log --name-only", "git show", (False, False), 1.0, "similarity"),
        ("git show", "git log --name-only", (True, True), 0.0, "similarity"),
        ("git log --name-only -- FILE", "git log --name-only -- FILE", (True, True), 0.5, "tie"),
        ("bananas", "apples", (False, False), 0.5, "tie"),
    ],
)
def test_the_checkers_decide_then_the_reference_else_it_is_a_tie(
    first: str, second: str, passed: tuple[bool, bool], won: float, by: str
) -> None:
    found = outcome(ITEM, first, second, passed, margin=0.05)
    assert (found.won, found.by) == (won, by)


def test_a_difference_within_the_margin_is_a_tie() -> None:
    answers = ("git log --name-only -- FILE x", "git log --name-only -- FILE y z")
    assert outcome(ITEM, *answers, (False, False), margin=0.0).won == 1
    assert outcome(ITEM, *answers, (False, False), margin=0.2).won == 0.5


@given(TEXTS, TEXTS, st.booleans(), st.booleans(), st.sampled_from([0.0, 0.05, 0.5]))
def test_the_order_of_the_arms_does_not_matter(a: str, b: str, one: bool, other: bool, margin: float) -> None:
    straight, swapped = outcome(ITEM, a, b, (one, other), margin), outcome(ITEM, b, a, (other, one), margin)
    assert straight.won == 1 - swapped.won
    assert (straight.by, straight.longer) == (swapped.by, -swapped.longer)


@settings(max_examples=25, deadline=None)
@given(PAIRS)
def test_swapped_arms_mirror_every_rate(pairs: list[tuple[float, int]]) -> None:
    one = win_rate(outcomes(pairs), seed=1)
    other = win_rate(outcomes([(1 - won, -longer) for won, longer in pairs]), seed=1)
    assert (one["wins"], one["ties"], one["p"]) == (other["losses"], other["ties"], other["p"])
    for rate, interval in (("win_rate", "win_ci"), ("lc_win_rate", "lc_win_ci")):
        assert one[rate] == pytest.approx(1 - other[rate], abs=2e-4)
        assert one[interval] == pytest.approx([1 - bound for bound in reversed(other[interval])], abs=2e-4)
        assert 0 <= one[interval][0] <= one[rate] + 1e-4
        assert one[rate] - 1e-4 <= one[interval][1] <= 1


def test_ties_count_half() -> None:
    found = win_rate(outcomes([(1.0, 0), (0.5, 0), (0.5, 0), (0.0, 0)] * 5), seed=1)
    assert (found["wins"], found["ties"], found["losses"], found["win_rate"]) == (5, 10, 5, 0.5)
    assert found["p"] == 1


def test_a_win_rate_that_length_explains_is_gone_at_equal_length() -> None:
    """The longer answer wins four times in five, and the first arm is mostly the longer one."""
    draw = np.random.default_rng(3)
    longer = draw.choice([-100.0, 100.0], p=[0.15, 0.85], size=2000)
    won = (draw.random(2000) < np.where(longer > 0, 0.8, 0.2)).astype(float)
    assert won.mean() > 0.68
    assert length_controlled(won, longer) == pytest.approx(0.5, abs=0.04)


def test_a_win_rate_that_length_does_not_explain_stays() -> None:
    draw = np.random.default_rng(4)
    longer = draw.normal(0, 50, 2000)
    won = (draw.random(2000) < 0.7).astype(float)
    assert length_controlled(won, longer) == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize("longer", [np.zeros(50), np.full(50, 9.0), np.arange(50.0)])
def test_an_arm_that_always_wins_has_a_rate_below_one(longer: Any) -> None:
    assert 0.5 < length_controlled(np.ones(50), longer) < 1


def test_two_arms_against_a_third_are_compared_prompt_by_prompt() -> None:
    better, worse = outcomes([(1.0, 0)] * 30 + [(0.0, 0)] * 10), outcomes([(0.5, 0)] * 30 + [(0.0, 0)] * 10)
    found = step(better, worse, seed=1)
    assert found["difference"] == 0.375
    assert found["p"] < 0.001
    assert step(worse, worse, seed=1)["p"] == 1


@given(TEXTS, TEXTS)
def test_similarity_is_symmetric_and_one_only_for_the_same_tokens(a: str, b: str) -> None:
    assert similarity(a, b) == similarity(b, a)
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, a) == 1


def test_similarity_takes_an_option_as_it_is() -> None:
    assert similarity("tar -N x", "tar -n x") == pytest.approx(2 / 3)
    assert similarity("aws s3 ls", "aws s3 ls") == 1
    assert similarity("", "aws s3 ls") == 0
