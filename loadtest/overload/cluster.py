"""The processes of one run: simulated workers, and what stands before them. All are stopped at the end of a block."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from prometheus_client.parser import text_string_to_metric_families

from capstan.native.console import Console
from capstan.native.supervisor import Service, ServiceFailed, Supervisor
from loadtest.overload.client import Arrival, Call, Target, offer
from loadtest.overload.load import MODEL, TENANTS
from loadtest.overload.ports import free_ports

_START_TIMEOUT_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_NO_LIMIT = {"requests_per_minute": 10**6, "tokens_per_minute": 10**9, "max_concurrent": 10**5}

Front = Callable[[Sequence[str], int], Service]
"""Makes what stands before the workers, from their URLs and a port of its own."""


class _Quiet(Console):
    """What a run's processes say is in their logs."""

    def say(self, text: str) -> None:
        """Nothing."""

    def service_line(self, service: str, line: str) -> None:
        """Nothing."""


@dataclass
class Cluster:
    """Running workers, and where to send requests."""

    workers: list[str]
    targets: list[Target]
    pids: dict[str, list[int]] = field(default_factory=dict)

    async def offer(self, arrivals: Sequence[Arrival], *, grace_s: float) -> tuple[list[Call], dict[str, float]]:
        """Send the arrivals. Returns the calls and the cores that each part used meanwhile."""
        began, before = time.monotonic(), self._cpu_s()
        calls = await offer(arrivals, self.targets, grace_s=grace_s)
        seconds, after = time.monotonic() - began, self._cpu_s()
        return calls, {part: round((after[part] - before[part]) / seconds, 2) for part in after}

    async def metrics(self) -> list[dict[str, float]]:
        """Each worker's own samples, summed by name."""
        found = []
        async with httpx2.AsyncClient(trust_env=False) as client:
            for url in self.workers:
                totals: dict[str, float] = {}
                for family in text_string_to_metric_families((await client.get(f"{url}/metrics")).text):
                    for sample in family.samples:
                        totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
                found.append(totals)
        return found

    def _cpu_s(self) -> dict[str, float]:
        return {part: sum(map(_cpu_s, pids)) for part, pids in self.pids.items()}


@asynccontextmanager
async def cluster(
    directory: Path, worker: Mapping[str, Any], count: int, front: Front | None, keys: Mapping[str, str]
) -> AsyncIterator[Cluster]:
    """Start `count` workers with the `CAPSTAN_WORKER_…` settings of `worker`, and `front` before them.

    Without a front the load goes to the workers in turn.
    """
    *worker_ports, front_port = free_ports(count + 1)
    urls = [f"http://127.0.0.1:{port}" for port in worker_ports]
    supervisor = Supervisor(_Quiet(), directory / "logs", start_timeout_s=_START_TIMEOUT_S)
    try:
        await supervisor.start([_worker(number, port, worker) for number, port in enumerate(worker_ports)])
        pids = {"client": [os.getpid()], "workers": [supervisor.pid(f"worker-{n}") for n in range(count)]}
        targets = [Target(url) for url in urls]
        if front is not None:
            service = front(urls, front_port)
            await supervisor.start([service])
            pids["front"] = [supervisor.pid(service.name)]
            targets = [Target(f"http://127.0.0.1:{front_port}", keys)]
        yield Cluster(urls, targets, pids)
    finally:
        await supervisor.stop()


def _worker(number: int, port: int, settings: Mapping[str, Any]) -> Service:
    environment = {f"CAPSTAN_WORKER_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {"CAPSTAN_WORKER_PORT": str(port), "CAPSTAN_WORKER_SERVED_MODEL_NAME": MODEL, "CAPSTAN_DRAIN_S": "0"}
    command = (sys.executable, "-m", "capstan.worker", "--simulate")
    return Service(f"worker-{number}", command, environment, f"http://127.0.0.1:{port}/health")


def gateway(directory: Path, pool: Mapping[str, Any], routing: str) -> Front:
    """Capstan's gateway with `pool`'s settings, every feature as it comes, and tenants without tight quotas."""

    def front(urls: Sequence[str], port: int) -> Service:
        models = directory / "models.yaml"
        served = {"pool": "workers", "routing": routing}
        models.write_text(
            yaml.safe_dump({"pools": {"workers": {"urls": list(urls), **pool}}, "models": {MODEL: served}})
        )
        environment = {
            "CAPSTAN_GATEWAY_PORT": str(port),
            "CAPSTAN_GATEWAY_MODELS_FILE": str(models),
            "CAPSTAN_GATEWAY_KEYS_FILE": str(directory / "keys.yaml"),
            "CAPSTAN_IDENTITY_SECRET": secrets.token_urlsafe(32),
            "CAPSTAN_DRAIN_S": "1",
        }
        command = (sys.executable, "-m", "capstan.gateway")
        return Service("gateway", command, environment, f"http://127.0.0.1:{port}/readyz")

    return front


def peer(router: Path, policy: str, *options: str) -> Front:
    """vllm-router with a routing policy."""

    def front(urls: Sequence[str], port: int) -> Service:
        command = [str(router), "--port", str(port), "--prometheus-port", str(free_ports(1)[0])]
        command += ["--worker-urls", *urls, "--policy", policy, "--worker-startup-check-interval", "1"]
        command += ["--log-level", "error", *options]
        return Service("vllm-router", tuple(command), {}, f"http://127.0.0.1:{port}/readiness")

    return front


def make_keys(directory: Path) -> dict[str, str]:
    """A key for each tenant, and `keys.yaml` with limits that no run reaches."""
    file = directory / "keys.yaml"
    command = [sys.executable, "-m", "capstan.gateway", "new-key", "--file", str(file), "--tenant"]
    made = [subprocess.Popen([*command, tenant], stdout=subprocess.PIPE, text=True) for tenant in TENANTS]
    keys = {tenant: process.communicate()[0].strip() for tenant, process in zip(TENANTS, made, strict=True)}
    if any(process.returncode for process in made):
        raise ServiceFailed("the gateway's new-key command failed; see above")
    content = yaml.safe_load(file.read_text())
    for tenant in content["tenants"].values():
        tenant |= _NO_LIMIT
    file.write_text(yaml.safe_dump(content))
    return keys


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
