from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.jobs.evaluate.stats import bootstrap_ci, difference_ci, holm, randomization_test

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def exact_p(differences: list[float]) -> float:
    """Over all 2^n assignments of signs."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(value >= observed - 1e-12 for value in sums) / len(sums)


@pytest.mark.parametrize(
    "differences", [[0.5] * 6, [0.5, 0.4, -0.1, 0.3], [0.1, -0.1, 0.2, -0.2, 0.3], [1.0, 0.0, 0.0, 0.0]]
)
def test_p_is_that_of_all_sign_assignments(differences: list[float]):
    p = randomization_test(differences, [0.0] * len(differences), seed=7, permutations=20_000)
    assert p == pytest.approx(exact_p(differences), abs=0.012)


def test_p_of_six_equal_gains_is_two_in_sixty_four():
    assert exact_p([0.5] * 6) == 2 / 64


def test_equal_arms_have_p_one():
    assert randomization_test([0.2, 0.7, 0.4], [0.2, 0.7, 0.4], seed=1) == 1.0


@given(SCORES, st.randoms())
@settings(max_examples=25)
def test_p_does_not_depend_on_which_arm_is_named_first(scores: list[float], random) -> None:
    other = [random.random() for _ in scores]
    forth = randomization_test(scores, other, seed=3, permutations=500)
    assert forth == randomization_test(other, scores, seed=3, permutations=500)
    assert 0 < forth <= 1


def test_p_is_never_zero():
    assert randomization_test([1.0] * 100, [0.0] * 100, seed=1, permutations=1000) == pytest.approx(1 / 1001)


def test_the_same_seed_gives_the_same_figures():
    a, b = [0.1, 0.5, 0.9, 0.3], [0.2, 0.2, 0.8, 0.1]
    assert randomization_test(a, b, seed=5) == randomization_test(a, b, seed=5)
    assert bootstrap_ci(a, seed=5) == bootstrap_ci(a, seed=5)


def test_scores_of_different_questions_cannot_be_paired():
    with pytest.raises(ValueError, match="same questions"):
        randomization_test([0.1, 0.2], [0.1], seed=1)


def test_holm_is_the_textbook_example():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_p_and_keeps_the_order(p_values: dict[str, float]):
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    assert all(p_values[name] <= adjusted[name] <= 1 for name in p_values)
    assert sorted(p_values.values()) == [
        p_values[n] for n in sorted(p_values, key=lambda n: (adjusted[n], p_values[n]))
    ]


def test_the_interval_of_a_proportion_is_that_of_the_binomial():
    low, high = bootstrap_ci([1.0] * 50 + [0.0] * 50, seed=2)
    assert (low, high) == (pytest.approx(0.402, abs=0.015), pytest.approx(0.598, abs=0.015))


def test_a_constant_has_no_width():
    assert bootstrap_ci([0.25] * 9, seed=2) == (0.25, 0.25)


def test_the_interval_of_a_difference_keeps_pairs_together():
    scores = [0.0, 1.0] * 40
    better = [score + 0.1 for score in scores]
    assert difference_ci(better, scores, seed=1) == (pytest.approx(0.1), pytest.approx(0.1))
