"""The committed dashboards: current, and well-formed for Grafana and Prometheus."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from observability.boards import DASHBOARDS, ROOT, panels, queries, read
from observability.tools import Tools

PROVISIONING = ROOT / "grafana/provisioning"


def test_the_json_is_what_its_source_makes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "grafana/build.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_provisioned_anywhere(path: Path) -> None:
    board = read(path)
    assert board["uid"] == f"capstan-{path.stem}"
    assert "id" not in board, "the database's, not the file's"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert set(re.findall(r'"uid": "([^"]+)"', path.read_text())) == {board["uid"], "${datasource}"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_says_what_to_do_and_lies_on_the_grid_alone(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in read(path)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_latencies_lead_to_their_traces() -> None:
    exemplars = {
        target["expr"]
        for path in DASHBOARDS
        for panel in panels(read(path))
        for target in panel["targets"]
        if target["exemplar"]
    }
    assert any("time_to_first_byte" in expr for expr in exemplars)
    assert any("time_per_output_token" in expr for expr in exemplars)
    by_uid = {source["uid"]: source for source in _provisioned("datasources/capstan.yaml")["datasources"]}
    assert set(by_uid) == {"prometheus", "tempo", "loki", "alertmanager"}
    (exemplar,) = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplar == {"name": "trace_id", "datasourceUid": "tempo"}
    assert by_uid["tempo"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    (field,) = by_uid["loki"]["jsonData"]["derivedFields"]
    assert field["datasourceUid"] == "tempo"
    line = '{"msg":"request","trace_id":"0af7651916cd43dd8448eb211c80319c"}'
    assert re.search(field["matcherRegex"], line)


def test_runbooks_name_panels_that_there_are() -> None:
    titles = {panel["title"] for path in DASHBOARDS for panel in read(path)["panels"]}
    named = {
        title: page.name
        for page in (ROOT / "docs/runbooks").glob("*.md")
        for title in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", " ".join(page.read_text().split()))
    }
    assert len(named) > 10
    assert {title: page for title, page in named.items() if title not in titles} == {}


def test_prometheus_parses_every_query(tools: Tools, tmp_path: Path) -> None:
    rules = [{"record": f"q{n}", "expr": query.expr} for n, query in enumerate(queries())]
    assert len(rules) > 100
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    tools.check(tools.promtool, "check", "rules", path)


def _provisioned(name: str) -> Any:
    return yaml.safe_load((PROVISIONING / name).read_text())
