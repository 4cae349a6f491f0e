from pathlib import Path

from prometheus_client import CollectorRegistry

from capstan.common.settings import environment_names
from capstan.reranker.metrics import Metrics
from capstan.reranker.openapi import description
from capstan.reranker.settings import RerankerSettings

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text()


def test_every_setting_is_in_the_readme() -> None:
    assert [name for name in environment_names(RerankerSettings).values() if f"`{name}`" not in README] == []


def test_every_metric_is_in_the_readme() -> None:
    registry: CollectorRegistry = Metrics().registry
    assert [m.name for m in registry.collect() if f"`{m.name}" not in README] == []


def test_the_committed_api_description_is_current() -> None:
    committed = (HOME / "openapi.json").read_text()
    assert committed == description() + "\n", "run: python -m capstan.reranker openapi > openapi.json"
