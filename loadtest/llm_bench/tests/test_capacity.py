"""The capacity model, against a queue whose answer is known and against curves that it must find again."""

from typing import Any

import pytest

from loadtest.llm_bench.capacity import CapacityError, Engine, check, fit, predict, replicas_for, simulate, sustained
from loadtest.llm_bench.figures import Slo

SLO = Slo(ttft_ms=2500, tpot_ms=300)
ENGINE = Engine(((1, 0.1), (32, 0.25)), prefill_tok_s=800.0)


def _row(concurrency: int, tpot: float, requests_s: float, ttft: float = 60.0) -> dict[str, Any]:
    times = {"p50": tpot, "mean": tpot}
    return {
        "concurrency": concurrency,
        "ttft_ms": {"p50": ttft},
        "tpot_ms": times,
        "e2e_ms": {"mean": 3000.0},
        "requests_s": requests_s,
        "prompt_tokens_each": 160.0,
    }


def test_a_step_lies_between_those_that_were_measured() -> None:
    engine = Engine(((1, 0.02), (9, 0.04), (17, 0.05)), 1000.0)
    assert engine.step_s(5) == pytest.approx(0.03)
    assert engine.step_s(13) == pytest.approx(0.045)
    assert engine.step_s(33) == pytest.approx(0.07)  # on beyond the last


def test_the_fit_takes_the_prompts_of_others_out_of_a_step() -> None:
    engine = fit([_row(8, 35.0, requests_s=2.5), _row(1, 20.0, requests_s=1 / 3)])
    assert engine.prefill_tok_s == pytest.approx(160 / 0.040)  # 60 ms less a step of 20
    assert engine.step_s(1) == pytest.approx(0.020)
    assert engine.step_s(7.5) == pytest.approx(0.035 * (1 - 2.5 * 7 / 8 * 0.040))  # 2.5 a second, 3 s each: 7.5 run


def test_a_curve_without_its_first_point_is_refused() -> None:
    with pytest.raises(CapacityError, match="concurrency 1"):
        fit([_row(8, 35.0, requests_s=2.5)])


def test_at_a_low_rate_a_request_is_alone() -> None:
    found = predict(Engine(((1, 0.02),), 4000.0), "random", 0.01, 1, SLO)
    assert found["tpot_ms"]["p50"] == 20.0
    assert found["ttft_ms"]["p50"] == pytest.approx(20 + 128 / 4000 * 1e3, rel=0.3)


def test_one_at_a_time_is_the_queue_of_pollaczek_and_khinchine() -> None:
    engine = Engine(((1, 0.01),), prefill_tok_s=1e9, max_running=1)
    samples = simulate(engine, "random", rate=0.9, replicas=1, seconds=8_000)
    waits = [sample.token_times[0] - sample.due - 0.01 for sample in samples]
    # M/G/1, service S = 10 ms × U{32..96}: mean wait = rate E[S²] / 2 (1 - rate E[S])
    mean, square = 0.64, 1e-4 * (64**2 + (65**2 - 1) / 12)
    assert sum(waits) / len(waits) == pytest.approx(0.9 * square / (2 * (1 - 0.9 * mean)), rel=0.15)


def test_two_replicas_sustain_about_twice_as_much_and_as_many_are_asked_for() -> None:
    one, two = sustained(ENGINE, "random", SLO, steps=5), sustained(ENGINE, "random", SLO, 2, steps=5)
    assert 1.9 <= two / one <= 2.4
    assert replicas_for(ENGINE, "random", one * 0.9, SLO) == 1
    assert replicas_for(ENGINE, "random", one * 3.5, SLO) in (3, 4)


def test_an_slo_that_no_replica_can_keep_is_said_to_be_so() -> None:
    with pytest.raises(CapacityError, match="idle server misses the SLO"):
        replicas_for(ENGINE, "random", 1.0, Slo(ttft_ms=10, tpot_ms=60))


def test_a_measured_sweep_stands_beside_the_prediction() -> None:
    point = {**predict(ENGINE, "random", 1.0, 1, SLO, 60), "shape": "random", "requests": 60}
    found = check(ENGINE, [point], 2.0, SLO)
    assert found["points"][0]["ttft_p99_measured"] == found["points"][0]["ttft_p99_predicted"]
    assert found["error"] == pytest.approx(found["sustained_predicted"] / 2 - 1, abs=1e-3)
