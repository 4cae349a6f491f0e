"""A gateway as a process of its own: `python -m capstan.gateway`."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx2
import orjson
import yaml
from faults.rest import until

from capstan.gateway.tenants import add_key

ADMIN_KEY = "admin-key-of-at-least-32-characters"


class GatewayProcess:
    """One process at a time, on the same port and files; its log is in a file."""

    def __init__(self, directory: Path, secret: str, models: dict[str, Any], **settings: str) -> None:
        """`settings` are environment variables without `CAPSTAN_GATEWAY_`."""
        self.models_file = directory / "models.yaml"
        self.keys_file = directory / "keys.yaml"
        self.write_models(models)
        key = add_key(self.keys_file, "acme")
        self.auth = {"authorization": f"Bearer {key}"}
        self._log = directory / "gateway.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own = {"PORT": port, "MODELS_FILE": self.models_file, "KEYS_FILE": self.keys_file, "ADMIN_KEY": ADMIN_KEY}
        self._environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "CAPSTAN_IDENTITY_SECRET": secret,
            **{f"CAPSTAN_GATEWAY_{name}": str(value) for name, value in {**own, **settings}.items()},
        }
        limits = httpx2.Limits(max_connections=200)
        url = f"http://127.0.0.1:{port}"
        self.client = httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20, headers=self.auth, limits=limits)

    def write_models(self, models: dict[str, Any]) -> None:
        self.models_file.write_text(yaml.safe_dump(models))

    def limit_tenant(self, **limits: Any) -> None:
        """Change the tenant's limits in the file."""
        keys = yaml.safe_load(self.keys_file.read_text())
        keys["tenants"]["acme"] |= limits
        self.keys_file.write_text(yaml.safe_dump(keys))

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "capstan.gateway", env=self._environ, stdout=log, stderr=log
            )
        await until(self._is_up, 30)

    async def _is_up(self) -> bool:
        assert self._process.returncode is None, self._log.read_text()
        try:
            return (await self.client.get("/healthz")).status_code == 200
        except httpx2.TransportError:
            return False

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return await self._process.wait()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def logged(self, text: str) -> list[str]:
        """Lines of the log with this text."""
        return [line for line in self._log.read_text().splitlines() if text in line]

    async def chat(self, **extra: Any) -> httpx2.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **extra}
        return await self.client.post("/v1/chat/completions", json=body)

    async def code(self, **extra: Any) -> str:
        """The error code of a chat; empty if it went well."""
        response = await self.chat(**extra)
        return "" if response.status_code == 200 else str(orjson.loads(response.content)["error"]["code"])
