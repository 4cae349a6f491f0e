"""Figures and lengths, against values worked out by hand."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from loadtest.llm_bench.bench import medians, paired_ratio
from loadtest.llm_bench.client import Sample
from loadtest.llm_bench.figures import Slo, figures, percentile, usd_per_mtok
from loadtest.llm_bench.workload import SHAPES, mean_lengths, poisson, requests

SLO = Slo(ttft_ms=500, tpot_ms=101)
GOOD = Sample(
    due=1.0,
    asked_tokens=5,
    sent=1.1,
    token_times=[1.4, 1.5, 1.6, 1.8],
    ended=1.9,
    prompt_tokens=10,
    output_tokens=5,
    outcome="completed",
)


def test_times_count_from_when_a_request_was_due_and_tpot_from_the_servers_tokens() -> None:
    found = figures([GOOD], SLO)
    assert found["ttft_ms"]["p50"] == 400.0
    assert found["tpot_ms"]["p50"] == 100.0  # 0.4 s for the four tokens after the first, which came in three events
    assert found["itl_ms"]["p50"] == 100.0
    assert found["itl_ms"]["p99"] == pytest.approx(198.0)
    assert found["e2e_ms"]["p50"] == 900.0
    assert found["send_lag_p99_ms"] == 100.0
    assert found["tok_s"] == pytest.approx(5 / 0.9, abs=0.01)


def test_goodput_wants_both_times_and_failures_are_counted_by_their_kind() -> None:
    slow_first = replace(GOOD, token_times=[1.6, 1.7, 1.8, 1.9])
    slow_rest = replace(GOOD, token_times=[1.4, 2.0], ended=2.0)
    refused = replace(GOOD, token_times=[], outcome="503 queue_full")
    left = replace(GOOD, outcome="left")
    short = replace(GOOD, output_tokens=4, token_times=[1.4, 1.5])
    found = figures([GOOD, slow_first, slow_rest, refused, left, short], SLO)
    assert found["good"] == round(2 / 6, 4)
    assert found["goodput_s"] == 2.0
    assert found["failures"] == {"503 queue_full": 1}
    assert (found["completed"], found["left"], found["short_answers"]) == (4, 1, 1)


def test_a_load_without_an_answer_has_no_times() -> None:
    found = figures([replace(GOOD, token_times=[], outcome="unreachable")], SLO)
    assert found["ttft_ms"]["p99"] is None
    assert found["tok_s"] == 0
    assert usd_per_mtok(1.0, found["tok_s"]) is None


def test_percentiles_are_interpolated_as_numpy_does() -> None:
    assert percentile([0.001, 0.002, 0.003, 0.004], 50) == 2.5
    assert percentile([0.001, 0.002, 0.003, 0.004], 99) == 3.97


def test_a_million_tokens_cost_what_the_machine_costs_meanwhile() -> None:
    assert usd_per_mtok(0.36, 100) == 1.0


def test_medians_keep_kinds_and_sum_failures() -> None:
    cells = [
        {"arm": "a", "round": n, "tok_s": t, "failures": {"x": 1}, "t": {"p50": t}} for n, t in enumerate((1, 9, 3))
    ]
    assert medians(cells) == {"tok_s": 3, "failures": {"x": 3}, "t": {"p50": 3}}


def test_arms_are_compared_within_their_round() -> None:
    speeds = {"a": (10, 20, 31), "b": (10, 40, 62)}
    cells = [{"arm": arm, "round": n, "tok_s": t} for arm, all_ in speeds.items() for n, t in enumerate(all_)]
    assert paired_ratio(cells, "a", "b") == 0.5
    assert paired_ratio(cells, "a", "nobody") is None


def test_a_seed_gives_the_same_lengths_with_other_words() -> None:
    first, second = requests("random", 50, "s", "one"), requests("random", 50, "s", "two")
    assert first == requests("random", 50, "s", "one")
    assert [(len(r.prompt.split()), r.output_tokens) for r in first] == [
        (len(r.prompt.split()), r.output_tokens) for r in second
    ]
    assert not {r.prompt for r in first} & {r.prompt for r in second}


def test_sharegpts_lengths_have_the_published_means() -> None:
    prompt, output = mean_lengths("sharegpt")
    assert prompt == pytest.approx(161, rel=0.1)
    assert output == pytest.approx(338, rel=0.1)
    drawn = [SHAPES["sharegpt"].lengths(Random(seed)) for seed in range(2000)]
    assert all(4 <= p <= 1024 and 4 <= o <= 1024 for p, o in drawn)


def test_popular_prefixes_are_shared() -> None:
    systems = [request.system for request in requests("shared-prefix", 200, "s")]
    assert len(set(systems)) == 8
    assert max(map(systems.count, set(systems))) > 200 / 8 * 2


def test_arrivals_have_the_rate() -> None:
    times = poisson(10.0, 1000, "s")
    assert times == sorted(times) == poisson(10.0, 1000, "s")
    assert 0 <= times[0] < times[-1] <= 100
    gaps = [b - a for a, b in pairwise(times)]
    assert sum(gap > 0.1 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.05)  # e^-1: exponential
