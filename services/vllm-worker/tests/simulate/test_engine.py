"""The scheduler in virtual time: the test is the clock."""

import pytest

from capstan.worker.simulate.engine import Engine, Request, Speed
from capstan.worker.simulate.metrics import Metrics
from capstan.worker.simulate.prefix_cache import PrefixCache


class Bench:
    """An engine and its time."""

    def __init__(self, *, seqs: int = 4, blocks: int = 1000, **speed: float) -> None:
        values = {"ttft_s": 0.0, "tpot_s": 0.01, "tpot_growth": 0.0, "prefill_tokens_per_s": 1000.0, "jitter": 0.0}
        self.engine = Engine(Speed(seed=1, **(values | speed)), seqs, None, PrefixCache(blocks), Metrics("m", 0))
        self.now = 0.0

    def add(self, prompt: int = 10, answer: int = 3) -> Request:
        request = Request(list(range(prompt)), ["x"] * answer, answer, None, "length")
        self.engine.add(request, self.now)
        return request

    def step(self) -> float:
        seconds = self.engine.plan(self.now)
        assert seconds is not None
        self.now += seconds
        self.engine.finish(self.now)
        return seconds

    def run(self) -> None:
        while self.engine.unfinished:
            self.step()


def test_time_to_first_token_is_the_prefill_plus_the_fixed_part():
    bench = Bench(ttft_s=0.05)
    request = bench.add(prompt=100)
    bench.run()

    # 100 tokens take 100 ms, more than the least of 50 ms
    assert request.first_token == pytest.approx(0.1)


def test_a_short_prompt_waits_for_the_fixed_part():
    bench = Bench(ttft_s=0.05)
    request = bench.add(prompt=1)
    bench.run()

    assert request.first_token == pytest.approx(0.05)


def test_each_further_token_takes_one_step():
    bench = Bench(tpot_s=0.02)
    request = bench.add(prompt=10, answer=5)
    bench.run()

    assert request.last_token - request.first_token == pytest.approx(4 * 0.02)


def test_steps_grow_with_the_batch():
    bench = Bench(tpot_s=0.02, tpot_growth=0.5)
    for _ in range(3):
        bench.add(answer=4)
    bench.step()

    assert bench.step() == pytest.approx(0.02 * 2)


def test_more_than_the_batch_waits_in_order():
    bench = Bench(seqs=2)
    first, second, third = bench.add(), bench.add(), bench.add()
    bench.step()

    assert (len(bench.engine.running), list(bench.engine.waiting)) == (2, [third])
    bench.run()
    assert third.scheduled >= min(first.last_token, second.last_token)


def test_a_full_kv_cache_makes_requests_wait():
    bench = Bench(blocks=2)
    bench.add(prompt=16, answer=16)
    waiting = bench.add(prompt=16, answer=16)
    bench.step()

    assert list(bench.engine.waiting) == [waiting]
    bench.run()
    assert waiting.finished == "length"


def test_a_cached_prefix_shortens_the_first_token():
    bench = Bench()
    first = bench.add(prompt=161)
    bench.run()
    start = bench.now
    again = bench.add(prompt=161)
    bench.run()

    assert first.first_token == pytest.approx(0.161)
    assert again.first_token - start == pytest.approx(0.001)  # one of 161 tokens is left to compute


def test_a_long_prompt_is_computed_in_parts_between_which_others_get_tokens():
    bench = Bench()
    short = bench.add(prompt=1, answer=10)
    bench.step()
    bench.add(prompt=5000)
    bench.step()

    assert short.sent == 2
    assert bench.engine.running[1].sent == 0


def test_an_aborted_request_is_gone_with_the_next_step():
    bench = Bench(seqs=1)
    running, waiting = bench.add(answer=100), bench.add(answer=1)
    bench.step()
    bench.engine.abort(running)
    bench.step()

    assert waiting.finished == "length"
    assert not bench.engine.running
    assert bench.engine.cache.usage == 0


def test_an_aborted_request_that_waits_never_runs():
    bench = Bench(seqs=1)
    bench.add(answer=2)
    waiting = bench.add()
    bench.step()
    bench.engine.abort(waiting)
    bench.run()

    assert waiting.sent == 0


def test_the_same_seed_gives_the_same_times():
    def times(seed_jitter: float) -> list[float]:
        bench = Bench(jitter=seed_jitter)
        bench.add(answer=20)
        return [bench.step() for _ in range(20)]

    assert times(0.3) == times(0.3)
    assert len(set(times(0.3))) > 10


def test_nothing_to_do_is_no_step():
    assert Bench().engine.plan(0.0) is None
