"""Stacks that the end-to-end tests share: one with the simulated worker, one with vLLM."""

from collections.abc import Iterator

import pytest
from running_stack import RunningStack

SLOW = {"CAPSTAN_WORKER_SIM_TTFT_MS": "20", "CAPSTAN_WORKER_SIM_TPOT_MS": "40"}
"""Slow enough that a test can act in the middle of a stream."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Five services, the worker simulated."""
    running = RunningStack(tmp_path_factory.mktemp("stack"), simulate=True, worker=SLOW).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def vllm_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Five services, the worker a real vLLM."""
    running = RunningStack(tmp_path_factory.mktemp("vllm-stack"), simulate=False).start()
    yield running
    running.stop()
