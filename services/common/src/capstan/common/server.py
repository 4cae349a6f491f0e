"""Runs an ASGI application under uvicorn until SIGTERM or SIGINT, then drains it."""

import socket
from types import FrameType
from typing import Any

import uvicorn

from capstan.common import telemetry
from capstan.common.health import Lifecycle
from capstan.common.settings import die


class DrainingServer(uvicorn.Server):
    """uvicorn that reports not-ready as soon as it is told to stop, and exits with 0."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: stop at once. (uvicorn would re-raise it and lose the exit code.)"""
        if self.should_exit:
            self.force_exit = True
        self._lifecycle.draining = True
        self.should_exit = True


def serve(app: Any, *, host: str, port: int, port_setting: str, lifecycle: Lifecycle, drain_s: float) -> None:
    """Serve `app` on `host:port` until told to stop. `drain_s` bounds the wait for running requests."""
    listener = bind(host, port, port_setting)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    DrainingServer(config, lifecycle).run(sockets=[listener])
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
