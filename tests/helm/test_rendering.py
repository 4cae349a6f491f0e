"""Helm and the schemas of Kubernetes and of custom resources accept what the chart makes."""

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import helm_tools
import kubernetes_validate
import pytest
from helm_chart import CHART, CI, Object, helm, rendered
from jsonschema.validators import Draft202012Validator
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

KUBERNETES = [f"1.{minor}" for minor in range(31, 38)]
CUSTOM = ("gateway.networking.k8s.io/", "keda.sh/", "monitoring.coreos.com/")
RANDOM = ("Secret",)


@pytest.fixture(params=["4", "3"])
def major(request: pytest.FixtureRequest) -> str:
    try:
        helm_tools.helm(request.param)
    except helm_tools.ToolUnavailable as error:
        pytest.skip(f"Helm {request.param} is not to be had here: {error}")
    return str(request.param)


@pytest.mark.parametrize("name", CI)
def test_lint_finds_nothing(name: str, major: str) -> None:
    said = helm("lint", "--strict", str(CHART), "--values", str(CHART / f"ci/{name}-values.yaml"), major=major)
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


@pytest.mark.parametrize("name", CI)
def test_both_helms_render_the_same(name: str, major: str) -> None:
    def by_name(objects: tuple[Object, ...]) -> dict[tuple[str, str], Object]:
        return {
            (item["kind"], item["metadata"]["name"]): item["metadata"] if item["kind"] in RANDOM else item
            for item in objects
        }

    assert by_name(rendered(name, major)) == by_name(rendered(name))


def test_names_are_unique(objects: tuple[Object, ...]) -> None:
    names = [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in objects]
    assert sorted(names) == sorted(set(names))


def _own_kinds(objects: tuple[Object, ...]) -> Iterator[Object]:
    return (item for item in objects if not item["apiVersion"].startswith(CUSTOM))


@cache
def _definitions(version: str) -> Registry[Any]:
    contents = schema_contents(f"kubernetes-json-schema/v{version}-local-strict/_definitions.json", version)
    return Resource.from_contents(contents) @ Registry()


@cache
def _validator(version: str, kind: str, api: str) -> Draft202012Validator:
    """`kubernetes_validate.validate`, which reads megabytes of schemas for each object, with them kept."""
    group = api.split("/")[0].split(".")[0] + "-" + api.split("/")[1] if "/" in api else api
    path = f"kubernetes-json-schema/v{version}-local-strict/{kind.lower()}-{group}.json"
    resource = Resource.from_contents(schema_contents(path, version))
    return Draft202012Validator(resource.contents, registry=resource @ _definitions(version))


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(version: str) -> None:
    full = next(known for known in kubernetes_validate.utils.all_versions() if known.startswith(version + "."))
    distinct = {json.dumps(item, sort_keys=True) for name in CI for item in _own_kinds(rendered(name))}
    mistakes = [
        f"{item['kind']} {item['metadata']['name']}: {error.json_path}: {error.message}"
        for item in map(json.loads, sorted(distinct))
        for error in _validator(full, item["kind"], item["apiVersion"]).iter_errors(item)
    ]
    assert mistakes == []


@pytest.fixture(scope="module")
def crd_directory() -> str:
    try:
        return str(helm_tools.crd_validator())
    except helm_tools.ToolUnavailable as error:
        pytest.skip(f"the schemas of custom resources are not to be had here: {error}")


def _crd_mistakes(directory: str, objects: list[Object]) -> list[str]:
    script = (helm_tools.HERE / "crds/crds.mjs").read_text()
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=directory, input=json.dumps(objects), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_custom_resources_fit_their_definitions(crd_directory: str) -> None:
    custom = [item for item in rendered("everything") if item["apiVersion"].startswith(CUSTOM)]
    kinds = {"HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
    assert {item["kind"] for item in custom} == kinds
    assert _crd_mistakes(crd_directory, custom) == []


def test_the_definitions_find_a_mistake(crd_directory: str) -> None:
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"}}
    wrong = {**monitor, "spec": {"selector": {}, "endpoints": [{"port": 8000}]}}
    assert "must be string" in "".join(_crd_mistakes(crd_directory, [wrong]))


FIELDS = {
    "ServiceMonitor": {"spec": {"jobLabel", "selector", "endpoints"}, "endpoints": {"port", "path", "interval"}},
    "PodMonitor": {
        "spec": {"selector", "podMetricsEndpoints"},
        "podMetricsEndpoints": {"port", "path", "interval", "honorLabels"},
    },
    "PrometheusRule": {"spec": {"groups"}, "groups": {"name", "interval", "rules"}},
    "ScaledObject": {
        "spec": {
            "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "fallback",
            "advanced", "triggers",
        },
        "triggers": {"type", "name", "metadata"},
    },
    "HTTPRoute": {
        "spec": {"parentRefs", "hostnames", "rules"}, "rules": {"matches", "timeouts", "backendRefs", "filters"}
    },
}  # fmt: skip
"""Known fields where a misspelt one would be dropped in silence: the packages' schemas let unknown ones pass."""


def test_custom_resources_have_known_fields_only() -> None:
    unknown = []
    for item in rendered("everything"):
        for place, known in FIELDS.get(item["kind"], {}).items():
            parts = [item["spec"]] if place == "spec" else item["spec"][place]
            unknown += [f"{item['kind']}.{place}.{key}" for part in parts for key in part if key not in known]
    assert unknown == []
