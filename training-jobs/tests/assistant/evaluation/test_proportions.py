"""Intervals and exact tests, against SciPy's and against their own symmetries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from capstan.jobs.assistant.proportions import Share, detectable, sign_test, wilson

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilson_is_scipy_s(count: tuple[int, int]) -> None:
    hits, n = count
    low, high = wilson(hits, n)
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(COUNTS)
def test_wilson_holds_the_share_and_is_mirrored_with_it(count: tuple[int, int]) -> None:
    hits, n = count
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1
    assert wilson(n - hits, n) == pytest.approx((1 - high, 1 - low))


def test_half_a_hit_is_a_tie() -> None:
    assert Share(1.5, 3).value == 0.5
    assert wilson(1.5, 3)[0] < 0.5 < wilson(1.5, 3)[1]


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(hits, n)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_sign_test_is_the_exact_binomial_one(one: int, other: int) -> None:
    expected = binomtest(one, one + other, 0.5).pvalue if one + other else 1.0
    assert sign_test(one, other) == pytest.approx(expected, rel=1e-9)
    assert sign_test(one, other) == sign_test(other, one)


def test_mcnemar_by_enumeration() -> None:
    """Of all ways in which six differences could have fallen, those at least as lopsided as five to one."""
    ways = np.array([[(number >> bit) & 1 for bit in range(6)] for number in range(64)]).sum(axis=1)
    assert sign_test(5, 1) == pytest.approx((np.abs(ways - 3) >= 2).mean())


@pytest.mark.parametrize(("n", "discordant"), [(600, 0.2), (900, 0.3)])
def test_the_detectable_difference_is_found_four_times_in_five(n: int, discordant: float) -> None:
    difference = detectable(n, discordant)
    assert difference is not None
    in_favour = (discordant + difference) / 2 / discordant
    found = 0.0
    for differing in range(n + 1):  # the exact test's power, over how many prompts differ and how they fall
        weight = binom.pmf(differing, n, discordant)
        if weight > 1e-7:
            ways = np.arange(differing + 1)
            significant = np.array([sign_test(int(k), differing - int(k)) < 0.05 for k in ways])
            found += float(weight * (binom.pmf(ways, differing, in_favour) * significant).sum())
    assert found == pytest.approx(0.8, abs=0.03)  # the exact test is a little conservative


def test_more_prompts_show_smaller_differences_and_a_few_show_none() -> None:
    few, many = detectable(300, 0.2), detectable(1200, 0.2)
    assert few is not None
    assert many is not None
    assert many < few < 0.2
    assert detectable(10, 0.2) is None
    assert detectable(1000, 0.0) is None
