"""The gateway's own counters and histograms, as Prometheus reads them."""

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from capstan.gateway.metrics import Counter, Histogram


def samples(registry: CollectorRegistry) -> list[Sample]:
    text = generate_latest(registry).decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_a_bucket_shows_its_last_traced_value_as_an_exemplar() -> None:
    registry = CollectorRegistry()
    cell = Histogram("wait_seconds", "Wait.", ("model",), (0.1, 1.0), registry).cell("m")
    cell.observe(0.5, ("a" * 32, 100.0))
    cell.observe(0.25, ("b" * 32, 101.0))
    cell.observe(0.75, None)
    cell.observe(0.05, None)
    cell.observe(7.0, ("c" * 32, 102.0))
    buckets = {s.labels["le"]: s for s in samples(registry) if s.name == "wait_seconds_bucket"}
    assert {le: s.value for le, s in buckets.items()} == {"0.1": 1, "1.0": 4, "+Inf": 5}
    exemplars = {le: s.exemplar and (s.exemplar.labels["trace_id"], s.exemplar.value) for le, s in buckets.items()}
    assert exemplars == {"0.1": None, "1.0": ("b" * 32, 0.25), "+Inf": ("c" * 32, 7.0)}


def test_counters_are_complete_open_metrics() -> None:
    registry = CollectorRegistry()
    Counter("things", "Things.", ("kind",), registry).cell("a").value += 2
    assert [(s.name, s.labels, s.value) for s in samples(registry)] == [("things_total", {"kind": "a"}, 2.0)]
