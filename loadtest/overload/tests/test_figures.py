from random import Random

import pytest

from loadtest.overload.affinity import ideal_hit_rate
from loadtest.overload.client import Arrival, Call, Target
from loadtest.overload.load import Shape, chat, poisson, requests, shared_prefixes
from loadtest.overload.measure import figures, percentile_ms

TARGET = Target("http://127.0.0.1:9")
SHAPE = Shape(prompt=(20, 60), output=(8, 24))


def call(at: float, outcome: str, status: int, first: float | None, ended: float) -> Call:
    return Call(
        Arrival(at, "amber", b""), TARGET, sent=at, status=status, first=first, ended=ended, whole=True, outcome=outcome
    )


def test_goodput_counts_what_was_completed_and_began_in_time() -> None:
    calls = [
        call(0.5, "completed", 200, 0.6, 0.9),  # before the window
        call(1.0, "completed", 200, 1.1, 2.0),
        call(1.1, "completed", 200, 2.6, 3.0),  # began too late
        call(1.2, "broken", 200, 1.3, 1.4),
        call(1.3, "503 queue_full", 503, None, 1.302),
        call(1.4, "unfinished", 0, None, 5.4),
    ]

    found = figures(calls, 1.0, 3.0, slo_s=0.5, cpu_cores={})

    assert (found.offered_rps, found.goodput_rps) == (2.5, 0.5)
    assert found.ttft_p99_ms == pytest.approx(4000)  # the one that never began had waited at least that long
    assert found.refusal_p99_ms == pytest.approx(2)
    assert found.outcomes == {"completed": 2, "broken": 1, "503 queue_full": 1, "unfinished": 1}


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile_ms([n / 1000 for n in range(1, 101)], 99) == 99
    assert percentile_ms([0.005], 99) == 5
    assert percentile_ms([], 99) is None


def test_the_same_seed_asks_the_same() -> None:
    assert requests("a", ["amber"], 20, 2, SHAPE) == requests("a", ["amber"], 20, 2, SHAPE)
    assert requests("a", ["amber"], 20, 2, SHAPE) != requests("b", ["amber"], 20, 2, SHAPE)


def test_poisson_arrivals_come_in_order_at_their_rate() -> None:
    times = poisson(Random(1), 50, 4)

    assert len(times) == 200
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 4


def test_the_ideal_cache_misses_each_prefix_once() -> None:
    arrivals = shared_prefixes("a", 100, 4, SHAPE, prefixes=4, prefix_words=1000, exponent=1.0)

    found = ideal_hit_rate(arrivals)

    # A prefix of 1,000 tokens is 62 whole blocks of 16; the rest of a prompt, about 50 tokens, is its own.
    assert found == pytest.approx(396 / 400 * 995 / 1048, abs=0.01)
    assert ideal_hit_rate([Arrival(0.0, "amber", chat(Random(2), SHAPE))]) == 0
