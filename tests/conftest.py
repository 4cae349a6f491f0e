"""Fixtures for the tests that cross services."""

from collections.abc import Iterator

import pytest
from compatibility_gateway import CompatibilityGateway, compatibility_gateway
from running_stack import RunningStack


@pytest.fixture(scope="session")
def gateway(vllm_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CompatibilityGateway]:
    """A gateway of the compatibility suite, over the real vLLM of the stack."""
    with compatibility_gateway(vllm_stack, tmp_path_factory.mktemp("compatibility")) as running:
        yield running
