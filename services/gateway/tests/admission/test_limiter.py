"""The adaptive limit, before an engine that answers as a simple queue does."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.gateway.limiter import Limiter

TARGET = 0.5


class Bench:
    """A limiter that is kept busy: `engine(running)` says how long first tokens take."""

    def __init__(self, engine: Callable[[float], float], ceiling: int = 100, upstreams: int = 1) -> None:
        self.now = 0.0
        self.engine = engine
        self.limiter = Limiter(ceiling, upstreams, TARGET, self.now)

    def run(self, seconds: float, *, used: float = 1.0, per_second: int = 40) -> list[float]:
        """The limit over some time in which `used` of it runs."""
        limits = []
        for _ in range(int(seconds * per_second)):
            self.now += 1 / per_second
            running = int(used * self.limiter.limit)
            self.limiter.first_token(self.engine(running), self.now, running)
            limits.append(self.limiter.limit)
        return limits


def knee(at: float) -> Callable[[float], float]:
    """First tokens take 100 ms up to a batch size, beyond it 100 ms more for each request too many."""
    return lambda running: 0.1 + 0.1 * max(0.0, running - at)


@pytest.mark.parametrize("at", [10, 40, 80])
def test_it_finds_the_knee_and_stays_near_it(at: float) -> None:
    bench = Bench(knee(at))
    bench.run(60)
    limits = bench.run(120)
    assert 0.85 * at <= sum(limits) / len(limits) <= at + 5
    assert min(limits) >= 0.75 * at


def test_it_follows_an_engine_that_becomes_slower_and_recovers() -> None:
    bench = Bench(knee(80))
    bench.run(60)
    bench.engine = knee(20)
    assert max(bench.run(60)[-40 * 20 :]) < 30
    bench.engine = knee(80)
    assert bench.run(60)[-1] > 70


def test_nothing_is_learned_from_a_limit_that_is_not_used() -> None:
    bench = Bench(knee(80))
    start = bench.limiter.limit
    assert set(bench.run(60, used=0.5)) == {start}


def test_slow_first_tokens_under_little_load_are_not_the_limits_fault() -> None:
    bench = Bench(lambda _: 2.0)
    start = bench.limiter.limit
    assert set(bench.run(60, used=0.2)) == {start}


def test_the_engines_own_queue_stops_growth_and_cuts_when_it_stays() -> None:
    bench = Bench(knee(80))
    bench.limiter.engine(5, 0.5, bench.now)
    start = bench.limiter.limit
    assert set(bench.run(10)) == {start}
    bench.limiter.engine(0, 0.99, bench.now)
    bench.limiter.engine(5, 0.5, bench.now)
    assert bench.limiter.limit == pytest.approx(0.9 * start)
    bench.run(120)
    assert bench.limiter.limit > 70  # the readings have ended


def test_a_momentary_queue_is_no_pressure() -> None:
    bench = Bench(knee(80), upstreams=2)
    for _ in range(20):
        bench.limiter.engine(2, 0.5, bench.now)  # one each: between two steps
    assert bench.run(5)[-1] > 75


def test_upstreams_bring_and_take_their_part() -> None:
    limiter = Limiter(40, 2, TARGET, 0.0)
    assert (limiter.limit, limiter.ceiling) == (40, 80)
    limiter.capacity(4)
    assert (limiter.limit, limiter.ceiling) == (80, 160)
    limiter.capacity(1)
    assert (limiter.limit, limiter.ceiling) == (20, 40)


def test_without_a_target_it_is_the_ceiling_and_nothing_moves_it() -> None:
    limiter = Limiter(40, 2, None, 0.0)
    for now in range(100):
        limiter.first_token(60.0, float(now), 80)
        limiter.engine(50, 1.0, float(now))
    assert limiter.limit == 80
    limiter.configure(40, TARGET)
    assert limiter.limit == 80
    limiter.configure(10, TARGET)
    assert limiter.limit == 20
    limiter.configure(40, None)
    assert limiter.limit == 80


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5), st.integers(0, 500), st.integers(0, 5)), max_size=200),
    st.integers(1, 64),
    st.integers(1, 8),
)
def test_it_never_leaves_its_bounds(
    events: list[tuple[float, float, int, int]], per_upstream: int, upstreams: int
) -> None:
    limiter, now = Limiter(per_upstream, upstreams, TARGET, 0.0), 0.0
    for seconds, passed, running, count in events:
        now += passed
        limiter.first_token(seconds, now, running)
        limiter.engine(float(running % 7), running / 500, now)
        if count:
            limiter.capacity(count)
            upstreams = count
        assert upstreams <= limiter.limit <= per_upstream * upstreams
