"""A real Prometheus scrapes the running stack: every panel has data, every metric exists, and an alert fires."""

import re

import pytest
from observability.boards import ROOT, PanelQuery, queries
from observability.monitoring import Monitoring
from observability.test_rules import ALERTS, rules

pytestmark = pytest.mark.timeout(300)

ONLY_TROUBLE = {
    ("overview", "Alerts firing"): "no alert fires here",
    ("overview", "Alerts"): "as a panel it counts none, as an annotation it has nothing to mark",
    ("gateway", "Alerts"): "an annotation without an alert",
    ("vllm", "Alerts"): "an annotation without an alert",
    ("rag", "Alerts"): "an annotation without an alert",
    ("training", "Alerts"): "an annotation without an alert",
}
"""What may be empty, and why. Everything else must show something."""


def test_every_panel_of_every_dashboard_has_data(monitoring: Monitoring) -> None:
    missing: list[PanelQuery] = list(queries())

    def all_there() -> bool:
        missing[:] = [query for query in missing if not monitoring.values(query.expr) and not _may_be_empty(query)]
        return not missing

    try:
        monitoring.wait(all_there)
    except AssertionError:
        pytest.fail("\n".join(["no data:", *map(str, missing)]))


def _may_be_empty(query: PanelQuery) -> bool:
    return (query.board, query.panel) in ONLY_TROUBLE


def test_every_metric_that_a_rule_panel_or_runbook_names_exists(monitoring: Monitoring) -> None:
    texts = [rule["expr"] for kind in ("alert", "record") for rule in rules(kind)]
    texts += [query.expr for query in queries()]
    texts += [page.read_text() for page in (ROOT / "docs/runbooks").glob("*.md")]
    named = set(re.findall(r"\b(?:capstan|vllm|process)[:_][a-z0-9_:]+", "\n".join(texts)))
    assert len(named) > 80
    assert named <= _exposed(monitoring)


def test_nothing_is_amiss_in_a_stack_that_works(monitoring: Monitoring) -> None:
    monitoring.wait(lambda: not monitoring.firing())  # a machine with too much to do may miss a scrape
    groups = monitoring.prometheus.get("/api/v1/rules").json()["data"]["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in found if rule["type"] == "alerting"} == set(ALERTS)
    assert [rule["name"] for rule in found if rule["health"] != "ok"] == []


def test_a_training_run_keeps_the_name_of_its_kind(monitoring: Monitoring) -> None:
    assert monitoring.values('capstan_train_step{job="pretrain",run="d4"}')
    assert monitoring.values('up{job="jobs"}') == [1]


def test_a_latency_leads_to_a_trace(monitoring: Monitoring) -> None:
    query = {"query": "capstan_gateway_time_to_first_byte_seconds_bucket", "start": "0", "end": "9999999999"}
    found = monitoring.prometheus.get("/api/v1/query_exemplars", params=query).json()["data"]
    traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert traces
    assert all(monitoring.spans.trace(trace) for trace in traces)


def test_an_alert_fires_for_real_is_sent_and_ends_with_the_trouble(monitoring: Monitoring) -> None:
    sent = monitoring.alertmanager
    monitoring.kill_workers()
    try:
        monitoring.wait(lambda: {"NoHealthyWorker", "ScrapeFailing"} <= monitoring.firing())
        monitoring.wait(lambda: sent.told_of("NoHealthyWorker"))
        alert = sent.told_of("NoHealthyWorker")[0]
        assert alert["labels"] == {"alertname": "NoHealthyWorker", "severity": "critical", "pool": "llm"}
        assert alert["annotations"]["summary"] == "Pool llm has no upstream that can take requests"
        assert alert["annotations"]["runbook"] == "docs/runbooks/NoHealthyWorker.md"
    finally:
        monitoring.restart_workers()
    monitoring.wait(lambda: "NoHealthyWorker" not in monitoring.firing())
    monitoring.wait(lambda: sent.told_it_is_over("NoHealthyWorker"))
    monitoring.wait(lambda: monitoring.values("min(capstan_gateway_upstream_healthy) == 1"))  # for the tests after this


def _exposed(monitoring: Monitoring) -> set[str]:
    """Names of series and of families, and of counters without series because they have never counted anything."""
    series = monitoring.prometheus.get("/api/v1/label/__name__/values").json()["data"]
    families = monitoring.prometheus.get("/api/v1/metadata").json()["data"]
    return {*series, *families, *(f"{name}_total" for name in families)}
