from pathlib import Path

from prometheus_client import CollectorRegistry

from capstan.retriever.metrics import Metrics

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text()


def test_every_metric_is_in_the_readme() -> None:
    registry: CollectorRegistry = Metrics().registry
    assert [m.name for m in registry.collect() if f"`{m.name}" not in README] == []
