"""The README names what the simulator answers and measures of its own."""

import re
from pathlib import Path

from capstan.worker.settings import WorkerSettings
from capstan.worker.simulate.metrics import Metrics
from capstan.worker.simulate.server import WallClock, simulator

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_route_of_the_simulator_is_in_the_readme() -> None:
    paths = {path for _, path in simulator(WorkerSettings(), WallClock())._routes}
    assert {path for path in paths if f"`{path}`" not in README} == set()


def test_the_readme_has_every_metric_that_vllm_has_not() -> None:
    names = {metric.name for metric in Metrics("m", 0).registry.collect()}
    ours = {f"{name}_total" for name in names if name.startswith("capstan_")}
    assert set(re.findall(r"`(capstan_[a-z_]+)", README)) == ours
