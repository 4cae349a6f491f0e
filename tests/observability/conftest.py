"""A real Prometheus beside the running stack."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from observability.monitoring import Monitoring
from observability.tools import Tools, fetch_tools
from running_stack import RunningStack


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Prometheus' programs; tests skip with the reason where they cannot be had."""
    return fetch_tools(Path(os.environ["CAPSTAN_CACHE_DIR"]))


@pytest.fixture(scope="module")
def monitoring(stack: RunningStack, tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """The stack, scraped every second, with traffic in every part of it."""
    with Monitoring(stack, tools, tmp_path_factory.mktemp("monitoring")) as running:
        yield running
