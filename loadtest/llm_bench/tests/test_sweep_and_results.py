"""The sweep's search, the result file's life, and which failures a fault explains."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.llm_bench import results
from loadtest.llm_bench.client import Sample
from loadtest.llm_bench.faults import KINDS, SETTLE_S, Fault, explain
from loadtest.llm_bench.figures import Slo
from loadtest.llm_bench.memory import Memory, growth
from loadtest.llm_bench.results import Results, summary
from loadtest.llm_bench.sweep import sweep

SLO = Slo(1000, 100)


def _point(rate: float, capacity: float, **more: Any) -> dict[str, Any]:
    late = 5000.0 if rate > capacity else 100.0
    times = {"p50": 50.0, "p99": late}
    return {
        "rate": rate,
        "tok_s": rate * 64,
        "failures": {},
        "ttft_ms": times,
        "tpot_ms": {"p50": 9.0, "p99": 9.0},
        **more,
    }


async def _sweep(capacity: float, start: float, halvings: int, **more: Any) -> dict[str, Any]:
    async def ask(rate: float) -> dict[str, Any]:
        return _point(rate, capacity, **more)

    return await sweep(ask, SLO, start, halvings, lambda _: None)


async def test_a_sweep_closes_in_on_the_highest_rate_that_holds() -> None:
    found = await _sweep(capacity=10.3, start=1.0, halvings=4)
    assert found["sustained"]["rate"] == 10.0
    assert [p["rate"] for p in found["points"]] == [1, 2, 4, 8, 10, 10.5, 11, 12, 16]


async def test_a_first_rate_that_is_too_high_is_halved() -> None:
    assert (await _sweep(capacity=3.0, start=8.0, halvings=3))["sustained"]["rate"] == 3.0


async def test_a_rate_with_failures_is_not_sustained() -> None:
    assert (await _sweep(capacity=10.0, start=1.0, halvings=2, failures={"503": 1}))["sustained"] is None


def test_an_interrupted_run_goes_on_and_is_published_when_whole(tmp_path: Path) -> None:
    first = Results(quick=False, root=tmp_path)
    first.add("a", {"n": 1})
    assert first.publish(["a", "b"]) != tmp_path / results.RESULT
    second = Results(quick=False, root=tmp_path)
    assert second.comparisons == {"a": {"n": 1}}
    second.add("b", {"n": 2})
    published = second.publish(["a", "b"])
    assert json.loads(published.read_text()) == {"a": {"n": 1}, "b": {"n": 2}}
    assert published == tmp_path / results.RESULT
    assert Results(quick=False, root=tmp_path).comparisons == {}  # a new run measures everything


def test_named_comparisons_are_measured_anew_and_the_others_stay(tmp_path: Path) -> None:
    whole = Results(quick=False, root=tmp_path)
    for name in ("a", "b"):
        whole.add(name, {"n": 1})
    whole.publish(["a", "b"])
    again = Results(quick=False, anew=["b"], root=tmp_path)
    assert again.comparisons == {"a": {"n": 1}}
    again.add("b", {"n": 2})
    assert json.loads(again.publish(["a", "b"]).read_text())["b"] == {"n": 2}


def test_what_did_not_run_is_not_published_and_is_tried_again(tmp_path: Path) -> None:
    run = Results(quick=False, root=tmp_path)
    run.add("a", {"did_not_run": "no checkpoint"})
    assert run.publish(["a"]) != tmp_path / results.RESULT
    assert Results(quick=False, root=tmp_path).comparisons == {}


def test_quick_figures_are_never_published(tmp_path: Path) -> None:
    run = Results(quick=True, root=tmp_path)
    run.add("a", {"n": 1})
    run.publish(["a"])
    assert not (tmp_path / results.RESULT).exists()
    assert Results(quick=False, root=tmp_path).comparisons == {}


def test_the_last_line_has_its_figures_also_where_nothing_ran() -> None:
    assert summary({})["cost_reduction_vs_naive"] is None
    arms = {
        name: {"ttft_ms": {"p99": p99}, "tok_s": 5, "failures": {"503": 1}}
        for name, p99 in (("gateway", 7), ("naive", 9))
    }
    serving = {"arms": arms, "cost_reduction_vs_naive": 0.9, "gateway_vs_vllm": 0.99}
    found = summary({"serving": serving})
    assert (found["ttft_p99_ms"], found["naive_ttft_p99_ms"], found["throughput_vs_direct"]) == (7, 9, 0.99)
    assert found["failed"] == 2


KILLED = next(kind for kind in KINDS if kind.name == "worker killed")
REDIS = next(kind for kind in KINDS if kind.name == "Redis restarted")


def _failed(due: float, ended: float, outcome: str) -> Sample:
    return Sample(due, 1, sent=due, ended=ended, outcome=outcome)


@pytest.mark.parametrize(
    ("fault", "sample", "explained"),
    [
        (KILLED, _failed(95, 101, "broke off"), True),
        (KILLED, _failed(105, 106, "503 queue_full"), True),
        (KILLED, _failed(110 + SETTLE_S + 1, 200, "503 queue_full"), False),  # long after
        (KILLED, _failed(90, 99, "broke off"), False),  # over before
        (KILLED, _failed(105, 106, "401 invalid_api_key"), False),  # not of that kind
        (REDIS, _failed(105, 106, "503 queue_full"), False),  # nobody may notice
    ],
)
def test_a_fault_explains_only_its_kind_of_failure_in_its_time(fault: Any, sample: Sample, explained: bool) -> None:
    fine = [_failed(1, 2, "completed"), _failed(1, 2, "left")]
    found = explain([*fine, sample], [Fault(fault, 100, 110)])
    assert found["unexplained"] == (not explained)
    assert found["explained"][fault.name] == ({sample.outcome: 1} if explained else {})


def test_growth_is_seen_after_the_warm_up() -> None:
    assert growth([50, 100, 100, *[100] * 9]) == 0
    assert growth([100.0 + n for n in range(12)]) == 6
    assert growth([100.0]) is None


def test_a_process_that_was_started_again_is_another_one() -> None:
    rising = [(float(n), 100.0 + 20 * n) for n in range(12)]
    memory = Memory({}, {"worker (1)": [(0.0, 90.0)] * 12, "worker (2)": rising})
    first, second = memory.table()
    assert (first["incarnation"], first["flat"], second["incarnation"], second["flat"]) == (1, True, 2, False)
