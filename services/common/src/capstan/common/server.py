"""Runs an ASGI application under uvicorn until SIGTERM or SIGINT, then drains it."""

import socket
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn

from capstan.common import telemetry
from capstan.common.health import Lifecycle
from capstan.common.settings import die


class DrainingServer(uvicorn.Server):
    """uvicorn that reports not-ready as soon as it is told to stop, and exits with 0. Times are in seconds."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        *,
        drain_s: float,
        delay_s: float = 0.0,
        prepare: Callable[[], Awaitable[None]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s
        self._delay_s = delay_s
        self._prepare = prepare
        self._now = now
        self._told_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Prepare first: what that raises ends `run`, where uvicorn would log it and exit with 3."""
        if self._prepare is not None:
            await self._prepare()
        await super().startup(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: stop at once. (uvicorn would re-raise it and lose the exit code.)"""
        if self._told_at is not None:
            self.force_exit = self.should_exit = True
            return
        self._told_at = self._now()
        self._lifecycle.draining = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn, ten times a second: whether to close the port and end what still runs."""
        if self._told_at is not None:
            waited = self._now() - self._told_at - self._delay_s
            if waited >= 0:
                self._lifecycle.refusing = True
                if waited >= self._drain_s or not self._lifecycle.busy():
                    self.config.timeout_graceful_shutdown = max(1, round(self._drain_s - waited))
                    self.should_exit = True
        return await super().on_tick(counter)


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    port_setting: str,
    lifecycle: Lifecycle,
    drain_s: float,
    delay_s: float = 0.0,
    http: Any = "httptools",
    keep_alive_s: float = 5.0,
    prepare: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve `app` on `host:port` until told to stop.

    After SIGTERM the service is not ready but serves on for `delay_s`; then running requests have `drain_s`. `http` is
    uvicorn's protocol class. `prepare` runs before the application starts; what it raises, this raises.
    """
    listener = bind(host, port, port_setting)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=http,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, round(keep_alive_s)),
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    DrainingServer(config, lifecycle, drain_s=drain_s, delay_s=delay_s, prepare=prepare).run(sockets=[listener])
    telemetry.flush()


def bind(host: str, port: int, port_setting: str) -> socket.socket:
    """A bound socket, or one clear line about the taken port and exit code 2."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        die(f"cannot listen on {host}:{port} ({error.strerror}); stop what uses it or set {port_setting}")
    listener.set_inheritable(True)
    return listener
