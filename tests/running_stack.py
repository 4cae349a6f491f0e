"""The whole stack as real processes on free ports, for tests."""

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.native.console import Console
from capstan.native.settings import NativeSettings
from capstan.native.stack import api_key, free_ports, identity_secret, services
from capstan.native.supervisor import Service, Supervisor

T = TypeVar("T")

DOCUMENTS = [
    {
        "id": "git/git-stash",
        "title": "git stash",
        "source": "git",
        "license": "GPL-2.0-only",
        "url": "git:/git-stash.html",
        "sections": [
            {
                "heading": ["DESCRIPTION"],
                "text": "Use git stash when you want to record the current state of the working directory."
                " The command saves your local modifications away and reverts the working directory to match HEAD.",
            },
            {
                "heading": ["COMMANDS", "pop"],
                "text": "Remove a single stashed state from the stash list and apply it on top of the current tree.",
            },
        ],
    },
    {
        "id": "man/pipe.2",
        "title": "pipe(2)",
        "source": "man",
        "license": "MIT",
        "url": "man:/pipe.2",
        "sections": [
            {
                "heading": ["DESCRIPTION"],
                "text": "The pipe system call creates a pipe, a unidirectional data channel that can be used for"
                " interprocess communication. The array pipefd is used to return two file descriptors.",
            }
        ],
    },
]


OTHERWISE = {
    "generator": {
        "CAPSTAN_GENERATOR_MIN_RELEVANCE": "0",
        "CAPSTAN_GENERATOR_MIN_SUPPORT": "0.7",
        "CAPSTAN_GENERATOR_GROUNDING": "mark",
    }
}
"""The native stack's own thresholds were measured on its corpus and its model; tests have neither."""


class RunningStack:
    """Start with `start()`; every method may be called from a test's own thread."""

    def __init__(
        self,
        state: Path,
        *,
        simulate: bool,
        worker: dict[str, str] | None = None,
        everywhere: dict[str, str] | None = None,
        adapter: Path | None = None,
    ) -> None:
        """`worker`, `everywhere`: added to the environment of the worker, of each service."""
        settings = NativeSettings(
            state_dir=state,
            corpus_dir=state,
            simulate=simulate,
            adapter=adapter,
            root=Path(os.environ["CAPSTAN_NATIVE_ROOT"]),
            services_python=Path(os.environ["CAPSTAN_NATIVE_SERVICES_PYTHON"]),
            worker_python=Path(os.environ["CAPSTAN_NATIVE_WORKER_PYTHON"]),
            jobs_python=Path(os.environ["CAPSTAN_NATIVE_JOBS_PYTHON"]),
        )
        self.settings = free_ports(settings)
        self._worker = worker or {}
        self._everywhere = everywhere or {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._supervisor = Supervisor(Console(), state / "logs", start_timeout_s=400)

    def start(self) -> "RunningStack":
        """Start all services and load `DOCUMENTS` for every tenant."""
        self.settings.state.mkdir(parents=True, exist_ok=True)
        self.key = api_key(self.settings)
        self._thread.start()
        self._run(self._supervisor.start(list(self._services().values())))
        self._load()
        return self

    def stop(self) -> None:
        """Drain everything."""
        self._run(self._supervisor.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kill(self, name: str) -> None:
        """Take a service away without a warning."""
        os.killpg(self._supervisor.pid(name), signal.SIGKILL)

    def drain(self, name: str) -> int:
        """SIGTERM one service; its exit code."""
        return self._run(self._supervisor.stop_one(name))

    def restart(self, name: str) -> None:
        """Start a killed service again and wait until it is ready."""
        self._run(self._supervisor.stop_one(name))
        self.revive(name)

    def revive(self, name: str) -> None:
        """Start a service that is not running and wait until it is ready."""
        alone = self._services()[name]
        self._run(self._supervisor.start([Service(name, alone.command, alone.environment, alone.ready_url)]))

    def start_beside(self, service: Service) -> None:
        """Start one more process and wait until it is ready; it stops with the stack."""
        self._run(self._supervisor.start([service]))

    def url(self, name: str) -> str:
        """Base URL of a service."""
        return f"http://127.0.0.1:{getattr(self.settings, f'{name}_port')}"

    def client(self, service: str = "gateway") -> httpx2.Client:
        """An HTTP client with the demo tenant's key."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.url(service), headers=headers, timeout=120, trust_env=False)

    def identity(self, tenant: str) -> dict[str, str]:
        """The header with which services speak for a tenant."""
        signer = Signer(identity_secret(self.settings.state))
        return {IDENTITY_HEADER: signer.sign(Identity(tenant, "gateway"))}

    def _load(self) -> None:
        with self.client("retriever") as client:
            response = client.post("/v1/documents", json={"documents": DOCUMENTS}, headers=self.identity("shared"))
            response.raise_for_status()

    def _services(self) -> dict[str, Service]:
        """The native stack, with other settings where `OTHERWISE` and the test say so."""
        changed = {**OTHERWISE, "worker": self._worker}
        return {
            service.name: replace(
                service,
                environment={**service.environment, **self._everywhere, **changed.get(service.name, {})},
            )
            for service in services(self.settings)
        }

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=500)
