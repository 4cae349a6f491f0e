"""The chart rendered with its ci/ values, once for each Helm, and ways to look at what came out."""

import math
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_tools
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/capstan"
CI = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "llm"
COMPONENT, INSTANCE = "app.kubernetes.io/component", "app.kubernetes.io/instance"
SERVICES = ("gateway", "retriever", "reranker", "generator", "vllm-worker")

Object = dict[str, Any]


class Refused(Exception):
    """Helm would not render; the message is its own."""


def helm(*arguments: str, major: str = "4") -> str:
    """What Helm prints. Raises `Refused`, `helm_tools.ToolUnavailable`."""
    done = subprocess.run([helm_tools.helm(major), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


def template(*arguments: str, major: str = "4") -> list[Object]:
    """The objects of the chart, `helm test` pods included."""
    text = helm("template", "capstan", str(CHART), "--namespace", NAMESPACE, *arguments, major=major)
    return [item for item in yaml.safe_load_all(text) if item]


@cache
def rendered(name: str, major: str = "4") -> tuple[Object, ...]:
    """The objects with the values of `ci/<name>-values.yaml`."""
    return tuple(template("--values", str(CHART / "ci" / f"{name}-values.yaml"), major=major))


def with_values(values: dict[str, Any]) -> list[Object]:
    """The objects with these values over the defaults."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return template("--values", file.name)


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """The objects of some kinds."""
    return [item for item in objects if item["kind"] in kinds]


def find(objects: Sequence[Object], kind: str, name: str) -> Object:
    """One object by kind and name."""
    return next(item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))


@dataclass(frozen=True)
class Workload:
    """An object that makes pods."""

    object: Object
    template: Object

    @property
    def name(self) -> str:
        return f"{self.object['kind']} {self.object['metadata']['name']}"

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template["metadata"]["labels"])

    @property
    def component(self) -> str:
        return self.labels[COMPONENT]

    @property
    def spec(self) -> Object:
        return dict(self.template["spec"])

    @property
    def container(self) -> Object:
        """Its only container."""
        (container,) = self.spec["containers"]
        return dict(container)

    @property
    def env(self) -> dict[str, str]:
        """Variables with their values, but for those that come from a Secret or from the pod's status."""
        items = self.container.get("env", [])
        literal = {item["name"]: item["value"] for item in items if "value" in item}
        sources = {item["name"]: item.get("valueFrom", {}).get("resourceFieldRef") for item in items}
        return literal | {name: self._cpus(source["resource"]) for name, source in sources.items() if source}

    def _cpus(self, resource: str) -> str:
        """`requests.cpu` as Kubernetes gives it to a container: rounded up."""
        kind, name = resource.split(".")
        quantity = self.container["resources"][kind][name]
        return str(math.ceil(float(quantity.removesuffix("m")) / (1000 if quantity.endswith("m") else 1)))

    @property
    def secret_files(self) -> dict[str, tuple[str, str]]:
        """Files under /run/secrets: name to Secret and key."""
        volumes = [volume["projected"] for volume in self.spec["volumes"] if volume["name"] == "secrets"]
        sources = [source["secret"] for volume in volumes for source in volume["sources"]]
        return {item["path"]: (source["name"], item["key"]) for source in sources for item in source["items"]}


def workloads(objects: Sequence[Object]) -> Iterator[Workload]:
    """Everything that makes pods."""
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield Workload(item, item["spec"]["template"])
        elif item["kind"] == "Pod":
            yield Workload(item, item)


def services(objects: Sequence[Object]) -> Iterator[Workload]:
    """The Deployments of our services."""
    return (load for load in workloads(objects) if load.component in SERVICES)
