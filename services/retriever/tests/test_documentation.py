import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from capstan.retriever.metrics import Metrics

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text()


def test_the_readme_has_every_metric_and_no_other() -> None:
    registry: CollectorRegistry = Metrics().registry
    names = {f"{m.name}_total" if m.type == "counter" else m.name for m in registry.collect()}
    assert set(re.findall(r"`(capstan_retriever_[a-z_]+)", README)) == names
