"""Fixtures of the chart's tests: they skip, with the reason, where Helm cannot be had."""

import helm_tools
import pytest
from helm_chart import CI, Object, rendered


@pytest.fixture(scope="session", autouse=True)
def helm4() -> None:
    """Helm 4, which the chart is rendered with."""
    try:
        helm_tools.helm("4")
    except helm_tools.ToolUnavailable as error:
        pytest.skip(f"Helm 4 is not to be had here: {error}")


@pytest.fixture(params=CI)
def objects(request: pytest.FixtureRequest, helm4: None) -> tuple[Object, ...]:
    """The objects of each of the chart's ci/ values."""
    return rendered(request.param)
