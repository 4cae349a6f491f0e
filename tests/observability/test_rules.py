"""Scrape configuration, rules and alerts as Prometheus' own tools and the rest of the repository see them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from observability.boards import ROOT, queries
from observability.tools import Tools

from capstan.gateway.metering import _SECONDS
from capstan.gateway.outcome import Outcome

RULES = sorted((ROOT / "prometheus/rules").glob("*.yaml"))
TESTS = sorted((ROOT / "prometheus/tests").glob("*.yaml"))
PORTS = {
    "gateway": 8000,
    "retriever": 8001,
    "reranker": 8002,
    "generator": 8003,
    "vllm-worker": 8004,
    "jobs": 8005,
    "otel-collector": 8888,
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules that have this key: `alert` or `record`."""
    groups = [group for path in RULES for group in load(path)["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


def test_prometheus_takes_configuration_and_rules(tools: Tools) -> None:
    tools.check(tools.promtool, "check", "config", ROOT / "prometheus/prometheus.yaml")
    tools.check(tools.promtool, "check", "rules", "--lint-fatal", *RULES)


def test_alertmanager_sends_what_hurts_users_to_whoever_is_on_call(tools: Tools) -> None:
    config = ROOT / "prometheus/alertmanager.yaml"
    tools.check(tools.amtool, "check-config", config)
    for severity, receiver in {"critical": "on-call", "warning": "team"}.items():
        arguments = (f"--config.file={config}", f"--verify.receivers={receiver}", f"severity={severity}")
        tools.check(tools.amtool, "config", "routes", "test", *arguments)


def test_alertmanager_names_only_alerts_that_there_are() -> None:
    named = re.findall(r'alertname=~?"([^"]+)"', (ROOT / "prometheus/alertmanager.yaml").read_text())
    assert {name for names in named for name in names.split("|")} <= set(ALERTS)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_otherwise(tools: Tools, path: Path) -> None:
    tools.check(tools.promtool, "test", "rules", path)


def test_every_alert_is_tested_to_fire_and_to_stay_silent() -> None:
    cases = [case for path in TESTS for case in load(path)["tests"]]
    fires = [
        re.search(r'alertname="(\w+)"', expected["expr"])
        for case in cases
        for expected in case.get("promql_expr_test", ())
    ]
    silent = {expected["alertname"] for case in cases for expected in case.get("alert_rule_test", ())}
    assert {found[1] for found in fires if found} == set(ALERTS)
    assert silent == set(ALERTS)


def test_the_labels_that_an_alerts_text_names_are_those_it_has() -> None:
    text = "".join(path.read_text() for path in TESTS)
    for name, rule in ALERTS.items():
        fired = re.search(rf'ALERTS{{alertname="{name}",alertstate="firing",(severity=[^}}]+)}}', text)
        assert fired, name
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert used <= set(re.findall(r"(\w+)=", fired[1])), name


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_its_page_is(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page = (ROOT / rule["annotations"]["runbook"]).read_text()
    assert re.findall(r"^#+ (.+)$", page, re.MULTILINE) == [name, "How to look", "What to do"]


def test_every_runbook_is_an_alerts_and_its_links_lead_somewhere() -> None:
    pages = ROOT / "docs/runbooks"
    assert {page.stem for page in pages.glob("*.md")} == {*ALERTS, "README"}
    assert set(re.findall(r"\((\w+)\.md\)", (pages / "README.md").read_text())) == set(ALERTS)
    for page in pages.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (pages / link).resolve().exists(), f"{page.name}: {link}"


def test_every_outcome_of_a_request_is_in_one_class() -> None:
    classes: dict[str, list[str]] = {}
    for rule in rules("record"):
        if rule["record"] == "capstan:requests:rate5m":
            found = re.search(r'outcome=~?"([^"]+)"', rule["expr"])
            assert found
            classes[rule["labels"]["class"]] = found[1].split("|")
    assert set(classes) == {"served", "failed", "refused"}
    assert sorted(name for names in classes.values() for name in names) == sorted(Outcome)


def test_the_goal_for_the_first_token_is_a_bucket_of_the_histogram() -> None:
    text = (ROOT / "prometheus/rules/recording.yaml").read_text()
    goal = re.search(r"capstan:slo_ttft_goal:seconds\n\s+expr: vector\(([\d.]+)\)", text)
    assert goal
    assert re.findall(r'le="([\d.]+)"', text) == [goal[1]]
    assert float(goal[1]) in _SECONDS


def test_every_service_is_found_by_its_compose_name_and_port() -> None:
    jobs = {job["job_name"]: job for job in load(ROOT / "prometheus/prometheus.yaml")["scrape_configs"]}
    assert set(jobs) == {*PORTS, "prometheus"}
    for name, port in PORTS.items():
        (found,) = jobs[name]["dns_sd_configs"]
        assert (found["names"], found["type"], found["port"]) == ([name], "A", port)


def test_every_job_that_a_rule_or_panel_names_is_scraped() -> None:
    jobs = {job["job_name"] for job in load(ROOT / "prometheus/prometheus.yaml")["scrape_configs"]}
    expressions = [rule["expr"] for kind in ("alert", "record") for rule in rules(kind)]
    expressions += [query.expr for query in queries()]
    named = {name for found in re.findall(r'\bjob=~?"([^"]+)"', "\n".join(expressions)) for name in found.split("|")}
    assert "vllm-worker" in named
    assert named <= jobs


def test_the_page_states_the_goals_as_they_are() -> None:
    goals = {
        (rule["record"], rule.get("labels", {}).get("slo")): float(rule["expr"].removeprefix("vector(").rstrip(")"))
        for rule in rules("record")
        if rule["expr"].startswith("vector(")
    }
    page = (ROOT / "docs/monitoring.md").read_text()
    seconds = goals["capstan:slo_ttft_goal:seconds", None]
    assert f"Availability {goals['capstan:slo_objective:ratio', 'availability']:.1%}".replace("%", " %") in page
    share = f"{goals['capstan:slo_objective:ratio', 'ttft']:.0%}".replace("%", " %")
    assert f"First token within {seconds:g} s for {share}" in page
