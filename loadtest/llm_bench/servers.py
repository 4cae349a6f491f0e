"""The servers of the comparisons, as processes of this machine. What is started is stopped at the end of a block."""

import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from capstan.native.console import Console
from capstan.native.supervisor import Service, ServiceFailed, Supervisor
from loadtest.llm_bench.client import Target
from loadtest.overload.ports import free_ports

MODEL = "smollm2-135m"
POOL = {"max_concurrent": 34, "max_queued": 128}
"""The native stack's own (native/models.yaml)."""
_START_S = 600.0
_NO_LIMIT = {"requests_per_minute": 10**6, "tokens_per_minute": 10**9, "max_concurrent": 10**5}


class Quiet(Console):
    """What processes say is in their logs."""

    def say(self, text: str) -> None:
        """Nothing."""

    def service_line(self, service: str, line: str) -> None:
        """Nothing."""


class Servers:
    """Starts servers by name and knows where they are."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._supervisor = Supervisor(Quiet(), directory / "logs", start_timeout_s=_START_S)
        self.targets: dict[str, Target] = {}
        self._services: dict[str, Service] = {}

    async def start(self, *services: Service, key: str = "") -> None:
        """Start services one after the other (two engines that load at once take longer than in turn)."""
        for service in services:
            self._services[service.name] = service
            await self._supervisor.start([service])
            url = f"http://{urlsplit(service.ready_url).netloc}"
            self.targets[service.name] = Target(url, MODEL, key if service.name.startswith("gateway") else "")

    async def restart(self, name: str, *, kill: bool) -> None:
        """End a server, by SIGTERM or SIGKILL, and start it again."""
        if kill:
            os.killpg(self._supervisor.pid(name), 9)
        await self._supervisor.stop_one(name)
        await self._supervisor.start([self._services[name]])

    async def keep_only(self, *names: str) -> None:
        """Stop all others."""
        for name in [name for name in reversed(self._services) if name not in names]:
            del self._services[name]
            self.targets.pop(name, None)
            await self._supervisor.stop_one(name)

    async def stop(self) -> None:
        """Stop all that run."""
        await self._supervisor.stop()

    def pid(self, name: str) -> int:
        """Process, and process group, of a server."""
        return self._supervisor.pid(name)

    def memory_mb(self, name: str) -> float:
        """Proportional set size of a server with all its processes, in MB (10^6 bytes)."""
        return memory_mb(self.pid(name))


@asynccontextmanager
async def servers(directory: Path) -> AsyncIterator[Servers]:
    """Servers that are stopped at the end of the block."""
    running = Servers(directory)
    try:
        yield running
    finally:
        await running.stop()


def vllm(name: str, *, cores: Sequence[int] = (), simulate: bool = False, **settings: object) -> Service:
    """Our worker: vLLM with the flags that fit this machine. `settings`: its `CAPSTAN_WORKER_…`."""
    (port,) = free_ports(1)
    command = [sys.executable if simulate else _python("worker"), "-m", "capstan.worker"]
    command += ["--simulate"] if simulate else []
    command = ["taskset", "-c", ",".join(map(str, cores)), *command] if cores else command
    values = {"port": port, "served_model_name": MODEL, **settings}
    environment = {f"CAPSTAN_WORKER_{key.upper()}": str(value) for key, value in values.items()}
    return Service(name, tuple(command), {**_sources(), **environment}, f"http://127.0.0.1:{port}/health")


def naive(name: str, batch: int) -> Service:
    """Hugging Face `generate` behind FastAPI."""
    (port,) = free_ports(1)
    command = (_python("worker"), "-m", "loadtest.llm_bench.naive", "--port", str(port), "--batch", str(batch))
    environment = {**_sources(), "HF_HUB_OFFLINE": "1", **_openmp()}
    return Service(name, command, environment, f"http://127.0.0.1:{port}/health")


def gateway(name: str, directory: Path, workers: Sequence[str], extra: Mapping[str, str] | None = None) -> Service:
    """Capstan's gateway before `workers` (base URLs), as it comes; tenants have limits that no run reaches."""
    (port,) = free_ports(1)
    models = directory / f"{name}.yaml"
    pool = {"urls": list(workers), **POOL}
    models.write_text(yaml.safe_dump({"pools": {"llm": pool}, "models": {MODEL: {"pool": "llm"}}}))
    environment = {
        "CAPSTAN_GATEWAY_PORT": str(port),
        "CAPSTAN_GATEWAY_MODELS_FILE": str(models),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(directory / "keys.yaml"),
        "CAPSTAN_IDENTITY_SECRET": secrets.token_urlsafe(32),
        **(extra or {}),
    }
    return Service(name, (sys.executable, "-m", "capstan.gateway"), environment, f"http://127.0.0.1:{port}/readyz")


def litellm(name: str, directory: Path, worker: str) -> Service:
    """LiteLLM's proxy with the settings of its page on production: one worker, no debug output, errors only."""
    (port,) = free_ports(1)
    target = {"model": f"openai/{MODEL}", "api_base": f"{worker}/v1", "api_key": "none"}
    config = directory / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"model_list": [{"model_name": MODEL, "litellm_params": target}]}))
    program = Path(_python("peers-litellm")).parent / "litellm"
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    environment = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    return Service(name, tuple(command), {"PYTHONPATH": "", **environment}, ready)


def halves() -> tuple[list[int], list[int]]:
    """The cores of this process in two halves; the second is empty where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[: (len(cores) + 1) // 2], cores[(len(cores) + 1) // 2 :]


def make_key(directory: Path) -> str:
    """A tenant's API key, and `keys.yaml` with limits that no run reaches."""
    file = directory / "keys.yaml"
    command = [sys.executable, "-m", "capstan.gateway", "new-key", "--file", str(file), "--tenant", "bench"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ServiceFailed(f"the gateway made no API key: {done.stderr.strip()}")
    content = yaml.safe_load(file.read_text())
    content["tenants"]["bench"] |= _NO_LIMIT
    file.write_text(yaml.safe_dump(content))
    return done.stdout.strip()


def memory_mb(group: int) -> float:
    """Proportional set size of a process group in MB: pages that processes share are counted once."""
    found = (_pss_kb(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _group(entry) == group)
    return round(sum(found) * 1024 / 1e6, 1)


def _group(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    except (OSError, IndexError):  # it ended meanwhile
        return -1


def _pss_kb(process: Path) -> int:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _python(environment: str) -> str:
    variable = f"CAPSTAN_NATIVE_{environment.upper().replace('-', '_')}_PYTHON"
    if variable not in os.environ:
        raise ServiceFailed(f"an arm needs the environment {environment}: run 'make bench-llm' ({variable} is not set)")
    return os.environ[variable]


def _openmp() -> dict[str, str]:
    """The OpenMP library that our worker takes, with its settings (capstan.worker.command): the same for all arms."""
    library = Path(_python("worker")).parent.parent / "lib/libiomp5.so"
    return {"LD_PRELOAD": str(library), "KMP_BLOCKTIME": "1", "KMP_TPAUSE": "0"} if library.exists() else {}


def _sources() -> dict[str, str]:
    """The sources without the compiled gateway, for interpreters that it was not compiled for."""
    sources = os.environ.get("CAPSTAN_NATIVE_SOURCES") or os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": sources}
