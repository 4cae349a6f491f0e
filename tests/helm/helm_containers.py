"""A pod of the chart as `docker run` has it: the same image, environment, arguments, files and rights.

What Docker has no word for stays a cluster's to prove: network policies, fsGroup, the kubelet's timing of probes.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from helm_chart import Object, Workload, find, of_kind

_UNITS = {"Ki": "k", "Mi": "m", "Gi": "g"}


@dataclass(frozen=True)
class Container:
    """How to run a pod's container: `docker run` with `options`, then `image`, then `command`."""

    name: str
    options: list[str]
    image: str
    command: list[str]
    port: int | None
    probes: dict[str, str]
    """Paths of the HTTP probes by kind: startup, liveness, readiness."""
    ready_command: list[str]
    """What to run inside, where readiness is a command."""
    grace_s: int

    def run(self, *more: str) -> list[str]:
        """Arguments of `docker`; `more`: options on top, such as `--detach`."""
        return ["run", *more, *self.options, self.image, *self.command]

    def given(self, option: str) -> list[str]:
        """The values of an option."""
        return [value for name, value in pairwise(self.options) if name == option]


def container(load: Workload, objects: Sequence[Object], files: Path) -> Container:
    """The container of a pod. Its ConfigMaps and Secrets are written under `files`.

    Raises `KeyError` where a Secret is not of the release.
    """
    spec, inner = load.spec, load.container
    user = spec["securityContext"]["runAsUser"]
    ports = [port["containerPort"] for port in inner.get("ports", []) if port["name"] == "http"]
    aliases = [
        service["metadata"]["name"]
        for service in of_kind(objects, "Service")
        if service["spec"]["selector"].items() <= load.labels.items()
    ]
    options = [
        *_security(load, user),
        *(part for alias in aliases for part in ("--network-alias", alias)),
        *(part for name, value in _environment(load, objects) for part in ("--env", f"{name}={value}")),
        *_mounts(load, objects, files, user),
        *(part for port in ports for part in ("--publish", f"127.0.0.1::{port}")),
        *(("--memory", _size(inner["resources"]["limits"]["memory"]))),
        *(("--entrypoint", inner["command"][0]) if "command" in inner else ()),
    ]
    probes = {
        kind: inner[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "liveness", "readiness")
        if "httpGet" in inner.get(f"{kind}Probe", {})
    }
    return Container(
        name=load.object["metadata"]["name"],
        options=options,
        image=inner["image"],
        command=[*inner.get("command", [])[1:], *inner.get("args", [])],
        port=ports[0] if ports else None,
        probes=probes,
        ready_command=inner.get("readinessProbe", {}).get("exec", {}).get("command", []),
        grace_s=spec["terminationGracePeriodSeconds"],
    )


def _security(load: Workload, user: int) -> list[str]:
    """Seccomp's RuntimeDefault is Docker's own default."""
    pod, inner = load.spec["securityContext"], load.container["securityContext"]
    options = ["--user", f"{user}:{pod['runAsGroup']}"]
    if inner["readOnlyRootFilesystem"]:
        options.append("--read-only")
    if not inner["allowPrivilegeEscalation"]:
        options += ["--security-opt", "no-new-privileges"]
    return options + [part for name in inner["capabilities"]["drop"] for part in ("--cap-drop", name)]


def _environment(load: Workload, objects: Sequence[Object]) -> Iterator[tuple[str, str]]:
    yield from load.env.items()
    for item in load.container.get("env", []):
        if reference := item.get("valueFrom", {}).get("secretKeyRef"):
            yield item["name"], _secret(objects, reference["name"])[reference["key"]]


def _mounts(load: Workload, objects: Sequence[Object], files: Path, user: int) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in load.spec["volumes"]}
    for mount in load.container["volumeMounts"]:
        volume, path = volumes.get(mount["name"], {}), mount["mountPath"]
        if path == "/dev/shm":
            yield from ("--shm-size", _size(volume["emptyDir"]["sizeLimit"]))
        elif {"emptyDir", "persistentVolumeClaim"} & set(volume) or not volume:
            size = f",size={_size(limit)}" if (limit := volume.get("emptyDir", {}).get("sizeLimit")) else ""
            yield from ("--tmpfs", f"{path}:exec,uid={user},gid={user},mode=0770{size}")
        else:
            directory = files / load.object["metadata"]["name"] / mount["name"]
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in _files(volume, objects):
                (directory / name).write_text(text)
                (directory / name).chmod(0o444)  # Kubernetes lets the pod's group read them
            yield from ("--volume", f"{directory}:{path}:ro")


def _files(volume: Object, objects: Sequence[Object]) -> Iterator[tuple[str, str]]:
    """Name and content of each file of a ConfigMap, a Secret or a projection of Secrets."""
    if "configMap" in volume:
        yield from find(objects, "ConfigMap", volume["configMap"]["name"])["data"].items()
    elif "secret" in volume:
        for item in volume["secret"]["items"]:
            yield item["path"], _secret(objects, volume["secret"]["secretName"])[item["key"]]
    else:
        for source in volume["projected"]["sources"]:
            for item in source["secret"]["items"]:
                yield item["path"], _secret(objects, source["secret"]["name"])[item["key"]]


def _secret(objects: Sequence[Object], name: str) -> dict[str, str]:
    for item in of_kind(objects, "Secret"):
        if item["metadata"]["name"] == name:
            decoded = {key: base64.b64decode(value).decode() for key, value in item.get("data", {}).items()}
            return decoded | item.get("stringData", {})
    raise KeyError(f"Secret {name} is not of the release")


def _size(quantity: str) -> str:
    """Docker's word for a quantity: 512Mi is 512m."""
    number, unit = quantity[:-2], quantity[-2:]
    return f"{number}{_UNITS[unit]}"
