"""A gateway beside the running stack, with the pools and tenants that the compatibility suite needs."""

import base64
import json
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import yaml
from running_stack import RunningStack

from capstan.native.stack import free_ports, identity_secret, reranker_model
from capstan.native.supervisor import Service

MODEL = "smollm2-135m"
HOSTED_KEY = "key-of-the-hosted-api"
VECTOR = [0.25, -0.5, 1.0]


@dataclass
class HostedApi:
    """Somebody else's embeddings, as OpenAI's API answers them. `seen` holds each request's key and body."""

    url: str = ""
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@contextmanager
def hosted_api() -> Iterator[HostedApi]:
    """Serve a `HostedApi` on a free port."""
    api = HostedApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            api.seen.append((self.headers["authorization"], body))
            answer = json.dumps(_embeddings(body)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    vector = packed if body.get("encoding_format") == "base64" else VECTOR
    return {
        "object": "list",
        "model": body["model"],
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(texts))],
        "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)},
    }


@dataclass
class CompatibilityGateway:
    """Where it is, what is behind it, and one API key of each tenant.

    Models: `MODEL`; `narrow`, the same worker with room for one request; `reranker`, our service; `embedder`, hosted.
    Tenants: `usual`; `hasty`, who may send 20 requests a minute.
    """

    url: str
    worker: str
    hosted: HostedApi
    usual: str
    hasty: str

    def http(self, key: str | None = None) -> httpx2.Client:
        """A plain HTTP client."""
        headers = {"authorization": f"Bearer {key or self.usual}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)

    def running(self) -> int:
        """Requests that the worker generates for now."""
        metrics = httpx2.get(f"{self.worker}/metrics", trust_env=False).text
        lines = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running{")]
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)

    def wait_idle(self) -> None:
        """Wait until the worker generates nothing. What the tests abort would go on for minutes."""
        deadline = time.monotonic() + 10
        while self.running():
            assert time.monotonic() < deadline, "the worker still generates for a client that has left"
            time.sleep(0.05)


@contextmanager
def compatibility_gateway(stack: RunningStack, directory: Path) -> Iterator[CompatibilityGateway]:
    """Start it, drain it afterwards."""
    settings = free_ports(stack.settings)  # its own port; the other services keep theirs
    keys = directory / "keys.yaml"
    made = {tenant: _new_key(stack, keys, tenant) for tenant in ("usual", "hasty")}
    tenants = yaml.safe_load(keys.read_text())
    tenants["tenants"]["hasty"]["requests_per_minute"] = 20
    keys.write_text(yaml.safe_dump(tenants))
    with hosted_api() as hosted:
        models = directory / "models.yaml"
        models.write_text(yaml.safe_dump(_models(stack, hosted)))
        url = f"http://127.0.0.1:{settings.gateway_port}"
        environment = {
            "CAPSTAN_IDENTITY_SECRET": identity_secret(stack.settings.state),
            "CAPSTAN_GATEWAY_PORT": str(settings.gateway_port),
            "CAPSTAN_GATEWAY_MODELS_FILE": str(models),
            "CAPSTAN_GATEWAY_KEYS_FILE": str(keys),
            "HOSTED_KEY": HOSTED_KEY,
        }
        command = (str(settings.services_python), "-m", "capstan.gateway")
        stack.start_beside(Service("compatibility-gateway", command, environment, f"{url}/readyz"))
        try:
            yield CompatibilityGateway(url, stack.url("worker"), hosted, **made)
        finally:
            stack.drain("compatibility-gateway")


def _models(stack: RunningStack, hosted: HostedApi) -> dict[str, Any]:
    worker = {"urls": [stack.url("worker")]}
    return {
        "pools": {
            "llm": worker,
            "narrow": {**worker, "max_concurrent": 1, "max_queued": 0},
            "reranker": {"kind": "capstan", "urls": [stack.url("reranker")]},
            "hosted": {"kind": "openai", "urls": [hosted.url], "api_key_env": "HOSTED_KEY"},
        },
        "models": {
            MODEL: {"pool": "llm"},
            "narrow": {"pool": "narrow", "upstream_model": MODEL},
            "reranker": {"pool": "reranker", "upstream_model": reranker_model(stack.settings)},
            "embedder": {"pool": "hosted", "upstream_model": "embed-1"},
        },
    }


def _new_key(stack: RunningStack, keys: Path, tenant: str) -> str:
    command = [str(stack.settings.services_python), "-m", "capstan.gateway", "new-key"]
    command += ["--file", str(keys), "--tenant", tenant]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
