"""The Compose stack in a directory and under a project name of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(os.environ["CAPSTAN_NATIVE_ROOT"])
COMPOSE = str(Path(sys.executable).with_name("docker-compose"))
LOCAL = ("compose.yaml", "compose.local.yaml")
SIMULATED = (*LOCAL, "compose.simulate.yaml", "compose.observability.yaml", "compose.test.yaml")
BACKING = "capstan/local-backing:local"


class ComposeStack:
    """`compose/` as a user has it after `./init`, with images that were built here."""

    def __init__(self, directory: Path, files: tuple[str, ...], **environment: str) -> None:
        self.directory = directory / "compose"
        ignored = shutil.ignore_patterns("wheelhouse", "secrets", ".env")
        for name in ("compose", "prometheus", "grafana"):
            shutil.copytree(ROOT / name, directory / name, ignore=ignored)
        shutil.copy(Path(__file__).with_name("compose.test.yaml"), self.directory)
        (directory / "docs").mkdir()
        for page in ("architecture.md", "gateway.md", "rag.md"):
            shutil.copy(ROOT / "docs" / page, directory / "docs")
        said = subprocess.run(["./init"], cwd=self.directory, check=True, capture_output=True, text=True).stdout
        self.key = said.splitlines()[0].rpartition(" ")[2]
        self.ports = _two_free_ports()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CAPSTAN_")},
            "COMPOSE_FILE": ":".join(files),
            "COMPOSE_PROJECT_NAME": f"capstan-test-{os.getpid()}",
            "GATEWAY_PORT": f"{self.ports[0]}-{self.ports[1]}",
            "PROMETHEUS_PORT": str(self.ports[1] + 1),
            "REDIS_IMAGE": BACKING,
            "PROMETHEUS_IMAGE": BACKING,
            **environment,
        }

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`; its output. Raises `AssertionError` with the logs' end."""
        done = subprocess.run(
            [COMPOSE, *arguments], cwd=self.directory, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}:\n{done.stderr[-2000:]}\n{self._why()}"
        return done.stdout

    def up(self, *services: str, **scale: int) -> None:
        """Start and wait until everything is healthy."""
        scales = [f"--scale={name.replace('_', '-')}={count}" for name, count in scale.items()]
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "400", *scales, *services)

    def down(self) -> None:
        """Remove everything, volumes too."""
        self.compose("down", "--volumes", "--timeout", "1")

    def containers(self, service: str, *, stopped: bool = False) -> list[str]:
        """Ids of a service's containers."""
        return self.compose("ps", "--quiet", *(["--all"] if stopped else []), service).split()

    def inspect(self, container: str) -> dict[str, Any]:
        """What Docker knows of a container."""
        found: dict[str, Any] = json.loads(docker("inspect", container))[0]
        return found

    def inside(self, container: str, *command: str) -> str:
        """Run a command in a container; its output. Raises `AssertionError` with what it said."""
        done = subprocess.run(["docker", "exec", container, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def health(self, container: str) -> str:
        """What the container's health check says."""
        return str(self.inspect(container)["State"]["Health"]["Status"])

    def until(self, holds: Callable[[], bool], seconds: float = 90) -> None:
        """Ask again and again; a stack that does not answer yet counts as no. Raises `AssertionError`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if holds():
                    return
            except (httpx2.TransportError, StopIteration):
                pass
            time.sleep(0.5)
        raise AssertionError(f"not so after {seconds:g} s\n{self._why()}")

    def client(self, port: int | None = None) -> httpx2.Client:
        """A client of a gateway, with the tenant's key."""
        return httpx2.Client(base_url=self.url(port), headers=self.headers, timeout=60, trust_env=False)

    def url(self, port: int | None = None) -> str:
        """Base URL of a gateway on this machine: the one that answers, if `port` is not given."""
        return f"http://127.0.0.1:{port or next(port for port in self.ports if _listens(port))}"

    @property
    def headers(self) -> dict[str, str]:
        """The tenant's key as a header."""
        return {"authorization": f"Bearer {self.key}"}

    def _why(self) -> str:
        done = subprocess.run(
            [COMPOSE, "logs", "--tail", "8"], cwd=self.directory, env=self._environment, capture_output=True, text=True
        )
        return done.stdout[-6000:]


def docker(*arguments: str) -> str:
    """Run `docker`; its output. Raises `CalledProcessError`."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Images:
    """What building said, sizes included, and how long it took."""

    said: str
    seconds: float


def build_images(*names: str) -> Images:
    """Build images on bases made here, without a network."""
    began = time.monotonic()
    script = str(ROOT / "compose/images.py")
    wheels = ["--wheelhouse", str(Path(os.environ["CAPSTAN_CACHE_DIR"]) / "wheelhouse")]
    bases = ["--base", "capstan/local-base:local", "--build-base", "capstan/local-build:local"]
    said = ""
    for step in (["bases"], ["wheelhouse", *names, *wheels], ["build", *names, *wheels, *bases]):
        done = subprocess.run([sys.executable, script, *step], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    return Images(said, time.monotonic() - began)


def _two_free_ports() -> tuple[int, int]:
    """Two ports in a row that are free, and a third after them."""
    for port in range(18_200, 19_900, 3):
        if not any(_listens(port + i) for i in range(3)):
            return port, port + 1
    raise AssertionError("no free ports")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
