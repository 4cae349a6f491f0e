"""Starts processes in dependency order, waits until they are ready, and stops them together.

Each child has its own process group: Ctrl-C reaches only the supervisor, which then drains the
children in reverse order. A child that dies stops the others.
"""

import asyncio
import os
import signal
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from capstan.native.console import Console

_POLL_S = 0.2
_LAST_LINES = 15
_KILL_AFTER_S = 40.0


@dataclass(frozen=True)
class Service:
    """A process: its command, what is added to its environment, and where it says that it is ready."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready_url: str
    after: tuple[str, ...] = ()


class ServiceFailed(Exception):
    """A child died or never became ready. The message holds its last lines."""


@dataclass
class _Child:
    service: Service
    process: asyncio.subprocess.Process
    reader: "asyncio.Task[None]"
    last: deque[str]


class Supervisor:
    """Runs a set of services."""

    def __init__(self, console: Console, log_dir: Path, *, start_timeout_s: float) -> None:
        self._console = console
        self._log_dir = log_dir
        self._start_timeout_s = start_timeout_s
        self._children: dict[str, _Child] = {}
        self._ready: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def start(self, services: list[Service]) -> None:
        """Start all services, each when those it comes after are ready. Raises `ServiceFailed`."""
        self._log_dir.mkdir(parents=True, exist_ok=True)

        async def start_one(service: Service) -> None:
            for name in service.after:
                await self.ready(name)
            await self._spawn(service)
            await self._wait_ready(service)
            self._ready[service.name].set()

        try:
            async with asyncio.TaskGroup() as group:
                for service in services:
                    group.create_task(start_one(service))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def ready(self, name: str) -> None:
        """Wait until a service has become ready for the first time."""
        await self._ready[name].wait()

    async def died(self) -> ServiceFailed:
        """Wait until some child ends by itself, and say which."""
        waits = {asyncio.create_task(child.process.wait()): child for child in self._children.values()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            child = waits[next(iter(done))]
            await child.reader
            return self._failure(child)
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """Drain: SIGTERM in reverse order of starting, SIGKILL for those that do not end in time."""
        for name in reversed(list(self._children)):
            await self.stop_one(name)

    async def stop_one(self, name: str) -> int:
        """Drain one child and return its exit code."""
        child = self._children.pop(name)
        process = child.process
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_KILL_AFTER_S):
                await process.wait()
        except TimeoutError:
            self._console.say(f"{name} did not stop within {_KILL_AFTER_S:.0f} s, killing it")
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it may have left behind
        code = await process.wait()
        await child.reader
        return code

    def pid(self, name: str) -> int:
        """The process id of a running service, which is also its process group."""
        return self._children[name].process.pid

    async def _spawn(self, service: Service) -> None:
        process = await asyncio.create_subprocess_exec(
            *service.command,
            env={**os.environ, **service.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=1024 * 1024,
        )
        last: deque[str] = deque(maxlen=_LAST_LINES)
        reader = asyncio.create_task(self._read(service.name, process, last))
        self._children[service.name] = _Child(service, process, reader, last)

    async def _read(self, name: str, process: asyncio.subprocess.Process, last: deque[str]) -> None:
        assert process.stdout is not None
        with (self._log_dir / f"{name}.log").open("w") as log:
            while True:
                try:
                    raw = await process.stdout.readline()
                except ValueError:  # a line beyond the limit: keep the log going
                    continue
                if not raw:
                    return
                line = raw.decode(errors="replace").rstrip()
                log.write(line + "\n")
                log.flush()
                if line:
                    last.append(line)
                    self._console.service_line(name, line)

    async def _wait_ready(self, service: Service) -> None:
        started = time.monotonic()
        child = self._children[service.name]
        async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as client:
            while not await _answers(client, service.ready_url):
                waited = time.monotonic() - started
                if child.process.returncode is not None:
                    await child.reader
                    raise self._failure(child)
                if waited > self._start_timeout_s:
                    raise ServiceFailed(f"{service.name} was not ready after {waited:.0f} s:\n{_tail(child)}")
                await asyncio.sleep(_POLL_S)
        self._console.say(f"{service.name} is ready ({time.monotonic() - started:.1f} s)")

    def _failure(self, child: _Child) -> ServiceFailed:
        code = child.process.returncode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        log = self._log_dir / f"{child.service.name}.log"
        return ServiceFailed(f"{child.service.name} {how}; its last lines (all in {log}):\n{_tail(child)}")


def _tail(child: _Child) -> str:
    return "\n".join(f"  {line}" for line in child.last) or "  (it wrote nothing)"


async def _answers(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx2.TransportError:
        return False
