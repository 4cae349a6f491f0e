"""Values, schema, README and notes say the same."""

import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest
import yaml
from helm_chart import CHART, ROOT, Object, helm

_NO_VALUES = {"global", "poolDefaults.name"}
"""Helm's own; and what each pool has of itself."""


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "charts/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readmes_table_is_the_values(generate: ModuleType) -> None:
    assert (CHART / "README.md").read_text() == generate.readme(), "run 'make chart' and commit"


def _schema() -> Object:
    return dict(json.loads((CHART / "values.schema.json").read_text()))


def _resolved(node: Object, schema: Object) -> Object:
    """A schema with what it refers to merged in."""
    if "$ref" not in node:
        return node
    target: Any = schema
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**_resolved(target, schema), **{key: value for key, value in node.items() if key != "$ref"}}


def _schema_leaves(node: Object, schema: Object, path: str = "") -> set[str]:
    node = _resolved(node, schema)
    properties = node.get("properties", {})
    if not properties or path.endswith("resources"):
        return {path}
    return {
        leaf
        for name, inner in properties.items()
        for leaf in _schema_leaves(inner, schema, f"{path}.{name}" if path else name)
    }


def _values_leaves(data: object, stops: set[str], path: str = "") -> set[str]:
    if not isinstance(data, dict) or path in stops or not data:
        return {path}
    return {
        leaf for key, value in data.items() for leaf in _values_leaves(value, stops, f"{path}.{key}" if path else key)
    }


def test_schema_and_values_have_the_same_places() -> None:
    schema = _schema()
    offered = _schema_leaves(schema, schema) - _NO_VALUES
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert _values_leaves(values, offered) == offered


def test_every_value_is_described(generate: ModuleType) -> None:
    schema = _schema()
    described = {path for path, text, _ in generate.documented_values() if len(text) > 3}
    assert _schema_leaves(schema, schema) - _NO_VALUES - described == set()


def _objects_of(node: Any) -> list[Object]:
    found = [node] if isinstance(node, dict) and ("properties" in node or node.get("type") == "object") else []
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return found + [item for value in inner for item in _objects_of(value)]


def test_the_schema_lets_nothing_unknown_pass() -> None:
    """Each object with known fields is closed; free ones are Kubernetes's or a map's."""
    objects = [item for item in _objects_of(_schema()) if "properties" in item]
    assert len(objects) > 30
    assert [item for item in objects if item.get("additionalProperties") is not False] == []


def test_each_version_has_an_upgrade_note() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    assert f"## {version}\n" in (CHART / "UPGRADE.md").read_text()


def test_the_notes_have_the_three_commands_that_come_next() -> None:
    arguments = ["install", "capstan", str(CHART), "--namespace", "llm", "--dry-run=client"]
    notes = helm(*arguments).partition("NOTES:")[2]
    commands = [line.strip() for line in notes.splitlines() if line.startswith("   ")]
    assert [line.split()[0] for line in commands if line.split()[0] in ("kubectl", "curl")] == [
        "kubectl",
        "kubectl",
        "curl",
    ]
    assert "port-forward svc/capstan-gateway 8000\n" in notes
    assert '"model": "smollm2-135m"' in notes
    assert "get secret capstan -o" in notes


def test_the_guide_names_every_group_of_alerts() -> None:
    guide = (ROOT / "docs/kubernetes.md").read_text()
    groups = [
        group["name"]
        for path in (ROOT / "prometheus/rules").glob("alerts*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert groups
    assert [name for name in groups if f"`{name}`" not in guide] == []
