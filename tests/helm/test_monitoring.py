"""Monitors find the services, queries have one element, and rules and dashboards are the repository's own."""

import json
import re

import yaml
from helm_chart import CHART, COMPONENT, ROOT, SERVICES, Object, find, of_kind, rendered, services, workloads

HOMES = {"rules": (ROOT / "prometheus/rules", "*.yaml"), "dashboards": (ROOT / "grafana/dashboards", "*.json")}


def test_the_charts_copies_are_the_originals() -> None:
    for name, (home, pattern) in HOMES.items():
        originals = {path.name: path.read_bytes() for path in home.glob(pattern)}
        copies = {path.name: path.read_bytes() for path in (CHART / "files" / name).glob(pattern)}
        assert copies == originals, "run 'make chart' and commit"


def test_monitors_find_every_service_under_its_name() -> None:
    objects = rendered("everything")
    monitors = of_kind(objects, "ServiceMonitor")
    found = set()
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        wanted = monitor["spec"]["selector"]["matchLabels"]
        chosen = [s for s in of_kind(objects, "Service") if wanted.items() <= s["metadata"]["labels"].items()]
        assert chosen, monitor["metadata"]["name"]
        for service in chosen:
            assert {e["port"] for e in monitor["spec"]["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}
            found.add(service["metadata"]["labels"][monitor["spec"]["jobLabel"]])
    assert found == set(SERVICES)


def test_the_rules_jobs_are_the_monitors_jobs() -> None:
    """Alerts that ask for `job` name components of the chart."""
    text = "".join(path.read_text() for path in HOMES["rules"][0].glob("*.yaml"))
    asked = {name for names in re.findall(r'job=~?"([a-z|-]+)"', text) for name in names.split("|")}
    assert asked <= {*SERVICES, "otel-collector", "prometheus"}


def test_the_monitor_of_jobs_finds_the_first_pod_of_those_that_train() -> None:
    objects = rendered("everything")
    (monitor,) = of_kind(objects, "PodMonitor")
    wanted = dict(monitor["spec"]["selector"]["matchLabels"])
    assert wanted.pop("batch.kubernetes.io/job-completion-index") == "0"  # which Kubernetes sets
    chosen = [load for load in workloads(objects) if wanted.items() <= load.labels.items()]
    assert {load.component for load in chosen} == {"job-pretrain", "job-assistant"}
    for load in chosen:
        (port,) = load.container["ports"]
        assert port["name"] == monitor["spec"]["podMetricsEndpoints"][0]["port"]
        assert load.env["CAPSTAN_JOBS_METRICS_PORT"] == str(port["containerPort"])


def test_every_rule_is_in_the_release() -> None:
    (rule,) = of_kind(rendered("everything"), "PrometheusRule")
    names = [group["name"] for group in rule["spec"]["groups"]]
    originals = [
        group["name"]
        for path in sorted(HOMES["rules"][0].glob("*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert names == originals
    assert "{{ $value" in json.dumps(rule), "templates of alerts are Prometheus's, not Helm's"


def test_every_dashboard_is_in_the_release() -> None:
    objects = rendered("everything")
    for path in HOMES["dashboards"][0].glob("*.json"):
        item = find(objects, "ConfigMap", f"capstan-dashboard-{path.stem}")
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(item["data"][path.name]) == json.loads(path.read_text())
        assert len(item["data"][path.name]) < 1_000_000, "a ConfigMap holds 1 MiB"


def _triggers(objects: tuple[Object, ...]) -> dict[str, Object]:
    (scaled,) = of_kind(objects, "ScaledObject")
    return {trigger["name"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}


def test_workers_are_scaled_by_a_query_with_one_element_at_all_times() -> None:
    triggers = _triggers(rendered("everything"))
    assert triggers["waiting"]["query"] == (
        'sum(capstan_gateway_queued{namespace="llm",pool="llm"}) '
        '+ (sum(vllm:num_requests_waiting{namespace="llm",model_name="capstan-llm"}) or vector(0))'
    )
    assert triggers["running"]["query"] == 'sum(capstan_gateway_running{namespace="llm",pool="llm"})'
    assert {trigger["ignoreNullValues"] for trigger in triggers.values()} == {"false"}


def test_what_is_scaled_has_no_replicas_of_its_own() -> None:
    objects = rendered("everything")
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(objects, "ScaledObject")}
    scaled |= {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(objects, "HorizontalPodAutoscaler")}
    assert scaled == {"capstan-gateway", "capstan-reranker", "capstan-vllm-worker-llm"}
    for load in services(objects):
        assert ("replicas" in load.object["spec"]) == (load.object["metadata"]["name"] not in scaled), load.name
    gateway = next(load for load in services(objects) if load.labels[COMPONENT] == "gateway")
    assert gateway.env["CAPSTAN_GATEWAY_REPLICAS"] == "6", "the limits' parts must not add up to more than the limits"
