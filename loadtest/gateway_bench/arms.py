"""The arms of the comparison: how each gateway is started, with its best documented settings, on its core."""

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from capstan.common.settings import CommonSettings
from loadtest.gateway_bench.machine import free_port
from loadtest.gateway_bench.payloads import MODEL

PORTKEY = Path(__file__).parent / "portkey"


class ArmError(Exception):
    """An arm cannot be started; the message says what to change."""


@dataclass(frozen=True)
class Site:
    """What the arms are started with."""

    directory: Path
    traces: str
    """Base URL that takes OTLP traces."""
    redis: str


@dataclass(frozen=True)
class Launch:
    """A command that serves on a port in front of an upstream, and headers that its clients must send."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """A gateway, or none (`launch` is None: the clients speak to the mock)."""

    name: str
    launch: Callable[[Site, int, str], Launch] | None
    streams: tuple[int, ...] = ()
    """Its own numbers of streams, where those of the bench are far beyond it."""


def _tenant(directory: Path) -> tuple[Path, str]:
    """The keys file, with one tenant whose limits are counted but never reached, and its API key."""
    file, kept = directory / "keys.yaml", directory / "key"
    if kept.exists():
        return file, kept.read_text()
    command = [sys.executable, "-m", "capstan.gateway", "new-key", "--file", str(file), "--tenant", "bench"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ArmError(f"capstan made no API key: {done.stderr.strip()}")
    data = yaml.safe_load(file.read_text())
    limits = {"requests_per_minute": 10**8, "tokens_per_minute": 10**10, "max_concurrent": 10**5}
    data["tenants"]["bench"].update(limits)
    file.write_text(yaml.safe_dump(data))
    kept.write_text(done.stdout.strip())
    return file, kept.read_text()


def _capstan(site: Site, port: int, upstream: str) -> Launch:
    pool = {"urls": [upstream], "max_concurrent": 4000, "max_queued": 4000, "ttft_target_s": 2.0}
    model = {"pool": "llm", "price": {"input": 0.1, "output": 0.4}}
    models = site.directory / f"models-{port}.yaml"
    models.write_text(yaml.safe_dump({"pools": {"llm": pool}, "models": {MODEL: model}}))
    keys, key = _tenant(site.directory)
    environment = {
        "CAPSTAN_GATEWAY_PORT": str(port),
        "CAPSTAN_GATEWAY_MODELS_FILE": str(models),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(keys),
        "CAPSTAN_IDENTITY_SECRET": secrets.token_hex(32),
        "OTEL_EXPORTER_OTLP_ENDPOINT": site.traces,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }
    return Launch([sys.executable, "-m", "capstan.gateway"], environment, (f"Authorization: Bearer {key}",))


def _capstan_redis(site: Site, port: int, upstream: str) -> Launch:
    memory = _capstan(site, port, upstream)
    return Launch(memory.command, {**memory.environment, "CAPSTAN_GATEWAY_REDIS_URL": site.redis}, memory.headers)


def _capstan_interpreted(site: Site, port: int, upstream: str) -> Launch:
    compiled = _capstan(site, port, upstream)
    sources = os.environ.get("CAPSTAN_NATIVE_SOURCES")
    if sources is None:
        raise ArmError("capstan-interpreted runs under 'make bench-gateway' only (CAPSTAN_NATIVE_SOURCES is not set)")
    return Launch(compiled.command, {**compiled.environment, "PYTHONPATH": sources}, compiled.headers)


def _vllm_router(site: Site, port: int, upstream: str) -> Launch:
    router = [_peer("peers", "vllm-router"), "--port", str(port), "--prometheus-port", str(free_port())]
    return Launch([*router, "--worker-urls", upstream, "--policy", "round_robin", "--log-level", "error"])


def _sglang_router(site: Site, port: int, upstream: str) -> Launch:
    router = [_peer("peers", "sglang-router"), "launch", "--port", str(port), "--prometheus-port", str(free_port())]
    return Launch([*router, "--worker-urls", upstream, "--policy", "round_robin", "--log-level", "error"])


def _litellm(site: Site, port: int, upstream: str) -> Launch:
    config = site.directory / f"litellm-{port}.yaml"
    target = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
    config.write_text(yaml.safe_dump({"model_list": [{"model_name": MODEL, "litellm_params": target}]}))
    command = [_peer("peers-litellm", "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # From LiteLLM's page on production: no debug output, errors only, no .env file. The price list is the package's.
    environment = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Launch([*command, "--num_workers", "1", "--telemetry", "False"], environment)


def _portkey(site: Site, port: int, upstream: str) -> Launch:
    server = _portkey_directory() / "node_modules/@portkey-ai/gateway/build/start-server.js"
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: {upstream}/v1", "Authorization: Bearer none")
    command = ["node", str(server), "--headless", f"--port={port}"]
    return Launch(command, {"NODE_ENV": "production"}, headers)


def _portkey_directory() -> Path:
    """Where portkey is installed as `portkey/package-lock.json` says; installs it if it is not yet there.

    Its web framework's adapter is overridden with a later release: with the one that portkey asks for, every stream
    ends in `TypeError: immutable` (Portkey-AI/gateway issue 1550, mended by honojs/node-server pull request 382).
    """
    lock = PORTKEY / "package-lock.json"
    target = CommonSettings().cache_dir / f"envs/portkey-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if (target / "complete").exists():
        return target
    if shutil.which("npm") is None:
        raise ArmError("portkey needs node: apt install nodejs npm")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(PORTKEY, target)
    command = ["npm", "ci", "--prefix", str(target), "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ArmError(f"portkey could not be installed: {done.stderr.strip()[-400:]}")
    (target / "complete").touch()
    return target


def _peer(environment: str, program: str) -> str:
    """A program of an environment that native/bootstrap.py has built."""
    variable = f"CAPSTAN_NATIVE_{environment.upper().replace('-', '_')}_PYTHON"
    if variable not in os.environ:
        raise ArmError(f"{program} needs its environment: run 'make bench-gateway' ({variable} is not set)")
    return str(Path(os.environ[variable]).parent / program)


ARMS = {
    arm.name: arm
    for arm in (
        Arm("direct", None),
        Arm("capstan", _capstan),
        Arm("capstan-redis", _capstan_redis),
        Arm("capstan-interpreted", _capstan_interpreted),
        Arm("vllm-router", _vllm_router),
        Arm("sglang-router", _sglang_router),
        Arm("litellm", _litellm, streams=(20, 100)),
        Arm("portkey", _portkey, streams=(100, 400)),
    )
}
DEFAULT = ("direct", "capstan", "capstan-redis", "capstan-interpreted", "vllm-router", "sglang-router")


def command_line(launch: Launch, core: int) -> str:
    """The command as a reader would type it: names instead of paths, no secrets."""

    def shown(word: str) -> str:
        return Path(word).name if word.startswith("/") else word

    environment = {k: v for k, v in launch.environment.items() if "SECRET" not in k}
    words = [f"{name}={shown(value)}" for name, value in environment.items()]
    words += ["taskset", "-c", str(core), *map(shown, launch.command)]
    words += [f"   (header {h})" for h in launch.headers if not h.startswith("Authorization")]
    return " ".join(words)
