"""The committed dashboards, and their queries as Grafana would send them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "grafana/dashboards").glob("*.json"))

VALUES = {
    "$__rate_interval": "2m",
    "$__interval": "5s",
    "$__range": "5m",
    "$datasource": "prometheus",
    "${datasource}": "prometheus",
}


@dataclass(frozen=True)
class PanelQuery:
    """A query of a panel, or of the alerts' annotation; `expr` is ready to be sent."""

    board: str
    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.board} / {self.panel}: {self.expr}"


def read(path: Path) -> dict[str, Any]:
    """A dashboard."""
    board = json.loads(path.read_text())
    assert isinstance(board, dict)
    return board


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Its panels that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[PanelQuery]:
    """Every query of every dashboard."""
    for path in DASHBOARDS:
        board = read(path)
        chosen = {f"${v['name']}": v["allValue"] for v in board["templating"]["list"] if v["type"] == "query"}
        for panel in panels(board):
            for target in panel["targets"]:
                yield PanelQuery(path.stem, panel["title"], filled(target["expr"], chosen))
        for annotation in board["annotations"]["list"]:
            yield PanelQuery(path.stem, annotation["name"], filled(annotation["expr"], chosen))


def filled(expr: str, chosen: dict[str, str]) -> str:
    """The expression with Grafana's variables filled in; those of a dashboard stand at `All`."""
    for name, value in sorted({**VALUES, **chosen}.items(), key=lambda pair: -len(pair[0])):
        expr = expr.replace(name, value)
    return expr
