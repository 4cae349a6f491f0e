"""The five services as processes of this machine, and the files they share."""

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from capstan.native.settings import NativeSettings
from capstan.native.supervisor import Service

TENANT = "demo"
LLM, ASSISTANT = "smollm2-135m", "capstan-assistant"
"""The base model, and its name with the adapter, where there is one."""
_LOOPBACK = "127.0.0.1"


class StackError(Exception):
    """Something the user has to change before the stack can start."""


def services(settings: NativeSettings) -> list[Service]:
    """What `make run` starts. Dependencies come first."""
    python = str(settings.services_python)
    worker: tuple[str, ...] = (str(settings.worker_python), "-m", "capstan.worker")
    if settings.simulate:
        worker = (python, "-m", "capstan.worker", "--simulate")
    url = {name: f"http://{_LOOPBACK}:{port}" for name, port in ports(settings).items()}
    adapter = adapter_directory(settings)
    more_models = {
        "CAPSTAN_GATEWAY_EXTRA_MODELS_FILE": str(settings.root / "native/models-assistant.yaml"),
        "CAPSTAN_NATIVE_ADAPTER": str(adapter),
    }
    shared = {
        "CAPSTAN_CACHE_DIR": str(settings.cache_dir),
        "CAPSTAN_IDENTITY_SECRET": identity_secret(settings.state),
        "CAPSTAN_RERANKER_MODEL": reranker_model(settings),
        **{f"CAPSTAN_{name.upper()}_PORT": str(port) for name, port in ports(settings).items()},
    }

    def service(name: str, extra: Mapping[str, str], after: tuple[str, ...] = (), ready: str = "/readyz") -> Service:
        command = worker if name == "worker" else (python, "-m", f"capstan.{name}")
        return Service(name, command, {**shared, **extra}, url[name] + ready, after)

    return [
        service("worker", {"CAPSTAN_WORKER_LORA_SLOTS": "1"} if adapter else {}, ready="/health"),
        service("retriever", {"CAPSTAN_RETRIEVER_DATA_DIR": str(settings.state / "index" / settings.corpus_dir.name)}),
        service("reranker", {}),
        service(
            "generator",
            {
                "CAPSTAN_GENERATOR_GATEWAY_URL": url["gateway"],
                "CAPSTAN_GENERATOR_RETRIEVER_URL": url["retriever"],
                "CAPSTAN_GENERATOR_RERANKER_URL": url["reranker"],
                "CAPSTAN_GENERATOR_LLM": ASSISTANT if adapter else LLM,
                "CAPSTAN_GENERATOR_DATA_DIR": str(settings.state / "generator"),
                # What a model this small needs: little to read, and its own words only where they are borne out.
                "CAPSTAN_GENERATOR_PASSAGES": "3",
                "CAPSTAN_GENERATOR_ANSWER_TOKENS": "96",
                "CAPSTAN_GENERATOR_GROUNDING": "strict",
                # Near the passage's own wording: of its freer sentences, two in three were wrong (docs/rag.md).
                "CAPSTAN_GENERATOR_MIN_SUPPORT": "0.9",
                # Off-topic questions score below 0.1; docs/rag.md says what stricter thresholds cost.
                "CAPSTAN_GENERATOR_MIN_RELEVANCE": "0.5",
                # Most of its answers are extracts: rather a loose one, cited, than none.
                "CAPSTAN_GENERATOR_MIN_EXTRACT": "0.2",
            },
            after=("retriever", "reranker"),
        ),
        service(
            "gateway",
            {
                "CAPSTAN_GATEWAY_MODELS_FILE": str(settings.root / "native/models.yaml"),
                "CAPSTAN_GATEWAY_KEYS_FILE": str(settings.state / "keys.yaml"),
                "CAPSTAN_GATEWAY_USAGE_FILE": str(settings.state / "usage.jsonl"),
                "CAPSTAN_GATEWAY_ADMIN_KEY": admin_key(settings.state),
                **(more_models if adapter else {}),
            },
            after=("generator", "worker"),
        ),
    ]


def adapter_directory(settings: NativeSettings) -> Path | None:
    """The adapter's directory, from the checkout's root on. Raises `StackError` if it holds none."""
    if settings.adapter is None:
        return None
    path = (settings.root / settings.adapter).absolute()
    if not (path / "adapter_config.json").is_file():
        raise StackError(f"CAPSTAN_NATIVE_ADAPTER: {path} holds no adapter (no adapter_config.json)")
    return path


def reranker_model(settings: NativeSettings) -> str:
    """The cross-encoder that comes with the checkout: no hub is needed."""
    return f"file:{settings.root / 'training-jobs/artifacts/reranker'}"


def ports(settings: NativeSettings) -> dict[str, int]:
    """Each service's port."""
    return {
        "gateway": settings.gateway_port,
        "retriever": settings.retriever_port,
        "reranker": settings.reranker_port,
        "generator": settings.generator_port,
        "worker": settings.worker_port,
    }


def check_ports(settings: NativeSettings) -> None:
    """Raise `StackError` when a port is taken, before anything is started."""
    for name, port in ports(settings).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                message = f"port {port} is taken; stop what uses it or set CAPSTAN_{name.upper()}_PORT"
                raise StackError(message) from None


def free_ports(settings: NativeSettings) -> NativeSettings:
    """The same settings on ports that are free now."""
    with_sockets = {name: socket.socket() for name in ports(settings)}
    try:
        for probe in with_sockets.values():
            probe.bind((_LOOPBACK, 0))
        chosen = {f"{name}_port": probe.getsockname()[1] for name, probe in with_sockets.items()}
    finally:
        for probe in with_sockets.values():
            probe.close()
    return settings.model_copy(update=chosen)


def identity_secret(state: Path) -> str:
    """The stack's signing secret, made at the first start."""
    return _kept(state / "identity-secret", lambda: secrets.token_urlsafe(32))


def admin_key(state: Path) -> str:
    """The key of the gateway's control plane, made at the first start."""
    return _kept(state / "admin-key", lambda: secrets.token_urlsafe(32))


def api_key(settings: NativeSettings) -> str:
    """The demo tenant's API key, made at the first start. The gateway stores only its hash."""
    return _kept(settings.state / "api-key", lambda: _new_key(settings))


def _new_key(settings: NativeSettings) -> str:
    command = [str(settings.services_python), "-m", "capstan.gateway", "new-key"]
    command += ["--file", str(settings.state / "keys.yaml"), "--tenant", TENANT]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.touch(mode=0o600)
        scratch.write_text(make() + "\n")
        scratch.rename(path)
    return path.read_text().strip()


def remember(settings: NativeSettings) -> None:
    """Note where the running stack is, for `make ask`."""
    note = {"pid": os.getpid(), "gateway": f"http://{_LOOPBACK}:{settings.gateway_port}"}
    (settings.state / "running.json").write_text(json.dumps(note))


def forget(settings: NativeSettings) -> None:
    """The stack runs no more."""
    (settings.state / "running.json").unlink(missing_ok=True)


def running_gateway(settings: NativeSettings) -> str:
    """Base URL of the running stack's gateway. Raises `StackError`."""
    try:
        return str(json.loads((settings.state / "running.json").read_text())["gateway"])
    except FileNotFoundError:
        raise StackError("no stack is running here: start one with 'make run'") from None
