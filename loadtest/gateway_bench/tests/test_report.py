"""The figures that are published."""

from typing import Any

from loadtest.gateway_bench.report import disturbance, medians, summary, table


def request_cell(arm: str, number: int, rps: float, failed: int = 0, others: float = 0.0) -> dict[str, Any]:
    cell = {"arm": arm, "round": number, "connections": 32, "rps": rps, "p50_ms": 1.0, "p99_ms": 2.0}
    return {
        **cell,
        "failed": failed,
        "failures": {"status": failed},
        "gateway_cpu_us": 50.0,
        "others_on_gateway_core": others,
    }


def stream_cell(arm: str, number: int, delay_ms: float | None) -> dict[str, Any]:
    cell = {"arm": arm, "round": number, "streams": 800, "chunks_s": 100.0, "failed": 0, "failures": {}}
    return {**cell, "delay_p50_ms": delay_ms, "delay_p99_ms": delay_ms, "others_on_gateway_core": 0.0}


def test_ratios_are_of_medians_over_the_rounds() -> None:
    cells = [request_cell("capstan", n, rps) for n, rps in enumerate((90.0, 300.0, 100.0))]
    cells += [request_cell("vllm-router", n, 80.0) for n in range(3)]
    figures = summary(
        medians(cells), {"capstan": {"started": 60.0, "after_requests": 70.5}}, {"rss_growth_mb": 1.5, "failed": 2}
    )
    assert (figures["rps"], figures["rps_vs_vllm_router"]) == (100.0, 1.25)
    assert (figures["rss_mb"], figures["rss_growth_mb"], figures["failed"]) == (70.5, 1.5, 2)


def test_an_arm_that_did_not_run_has_no_ratio() -> None:
    found = medians([request_cell("vllm-router", 1, 80.0)])
    figures = summary(found, {}, {})
    assert figures["rps_vs_vllm_router"] is None
    assert "capstan        DID NOT RUN: why" in list(table(found, {}, {}, {"capstan": "why"}))


def test_added_time_is_against_the_direct_arm_of_the_same_round() -> None:
    cells = [stream_cell("direct", 1, 1.0), stream_cell("direct", 2, 5.0)]
    cells += [stream_cell("capstan", 1, 1.5), stream_cell("capstan", 2, 6.5)]
    capstan = next(cell for cell in medians(cells) if cell["arm"] == "capstan")
    assert capstan["added_p99_ms"] == 1.0


def test_failures_are_summed_and_said() -> None:
    found = medians([request_cell("capstan", n, 1.0, failed=n) for n in range(3)])
    assert "capstan        FAILURES in 32 connections: 3 × status" in list(table(found, {}, {}, {}))
    assert summary(found, {}, {})["failed"] == 3


def test_a_stream_that_gave_nothing_has_an_empty_place_in_the_table() -> None:
    found = medians([stream_cell("direct", 1, 1.0), stream_cell("capstan", 1, None)])
    assert any(line.startswith("capstan") for line in table(found, {}, {}, {}))


def test_a_machine_that_is_not_quiet_is_said() -> None:
    assert not list(disturbance(medians([request_cell("capstan", 1, 1.0, others=0.02)])))
    assert "30%" in next(iter(disturbance(medians([request_cell("capstan", 1, 1.0, others=0.3)]))))
