"""The configuration of collector, Tempo and Loki, as far as it can be checked without them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE = Path(__file__).resolve().parent.parent / "compose"
KNOWN = {
    "receivers": {"otlp", "fluentforward"},
    "processors": {"memory_limiter", "tail_sampling", "transform", "groupbyattrs", "batch"},
    "exporters": {"otlp_grpc", "otlp_http"},
    "extensions": {"health_check"},
}
"""Types of components that this configuration may use, all of them in the contrib distribution."""


def config(name: str) -> Any:
    return yaml.safe_load((COMPOSE / name).read_text())


def leaves(value: Any) -> Iterator[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if items is None:
        yield value
    else:
        for item in items:
            yield from leaves(item)


@pytest.mark.parametrize("kind", KNOWN)
def test_each_component_is_known_defined_and_used(kind: str) -> None:
    collector = config("otel-collector.yaml")
    service = collector["service"]
    used = {name for pipeline in service["pipelines"].values() for name in pipeline.get(kind, ())}
    used |= set(service["extensions"]) if kind == "extensions" else set()
    assert used == set(collector[kind])
    assert {name.split("/")[0] for name in used} <= KNOWN[kind]


def test_every_pipeline_bounds_its_memory_first_and_batches_last() -> None:
    for pipeline in config("otel-collector.yaml")["service"]["pipelines"].values():
        assert (pipeline["processors"][0], pipeline["processors"][-1]) == ("memory_limiter", "batch")


def test_each_sampling_policy_holds_the_settings_of_its_type() -> None:
    policies = config("otel-collector.yaml")["processors"]["tail_sampling"]["policies"]
    assert {policy["type"] for policy in policies} == {"status_code", "latency", "probabilistic"}
    assert all(set(policy) == {"name", "type", policy["type"]} for policy in policies)


def test_traces_and_logs_go_where_tempo_and_loki_listen() -> None:
    exporters, tempo, loki = config("otel-collector.yaml")["exporters"], config("tempo.yaml"), config("loki.yaml")
    listens = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert exporters["otlp_grpc/tempo"]["endpoint"] == listens.replace("0.0.0.0", "tempo")
    assert exporters["otlp_http/loki"]["endpoint"] == f"http://loki:{loki['server']['http_listen_port']}/otlp"


@pytest.mark.parametrize(("name", "writable"), [("tempo.yaml", "/var/tempo/"), ("loki.yaml", "/loki")])
def test_only_the_volume_is_written_to(name: str, writable: str) -> None:
    """The containers' root file systems are read-only."""
    paths = [leaf for leaf in leaves(config(name)) if isinstance(leaf, str) and leaf.startswith("/")]
    assert paths
    assert [path for path in paths if not path.startswith(writable)] == []


def test_logs_are_structured_and_kept_as_long_as_traces() -> None:
    tempo, loki = config("tempo.yaml"), config("loki.yaml")
    assert loki["limits_config"]["retention_period"] == tempo["compactor"]["compaction"]["block_retention"]
    assert loki["compactor"]["retention_enabled"]
    assert loki["limits_config"]["allow_structured_metadata"]
    assert loki["schema_config"]["configs"][-1]["schema"] == "v13"
