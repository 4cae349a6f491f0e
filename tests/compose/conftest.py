"""Fixtures: a Docker engine, the images, and the stack with simulated workers."""

from collections.abc import Iterator

import pytest
from compose_stack import SIMULATED, ComposeStack, Images, build_images
from engine import NoEngineError, docker_engine
from outcomes import Outcomes


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """A Docker engine, or the tests are skipped."""
    try:
        with docker_engine():
            yield
    except NoEngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def images(engine: None) -> Images:
    """The images of the stack with simulated workers."""
    return build_images("gateway", "generator", "retriever", "reranker", "simulated-worker", "jobs")


@pytest.fixture(scope="module")
def compose_stack(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    """Everything up: two workers, two gateways, Redis and Prometheus."""
    stack = ComposeStack(tmp_path_factory.mktemp("compose"), SIMULATED, GATEWAY_REPLICAS="2", SIM_TPOT_MS="60")
    try:
        stack.up(*SERVICES_AND_PROMETHEUS, vllm_worker=2, gateway=2)
        yield stack
    finally:
        stack.down()


SERVICES_AND_PROMETHEUS = ("gateway", "documents", "prometheus")
"""The others follow from what these depend on."""


_outcomes = Outcomes()


@pytest.fixture(scope="session")
def outcomes() -> Iterator[Outcomes]:
    """The table of claims, faults and what was observed; printed at the run's end."""
    yield _outcomes
    _outcomes.publish()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table."""
    if _outcomes.rows:
        terminalreporter.section("faults in the Compose stack")
        terminalreporter.write_line(_outcomes.table())
