"""What stands behind the gateway during the bench, all on the load's core: two mock upstreams and a Redis."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from loadtest.gateway_bench.machine import Process, Processes, free_port
from loadtest.gateway_bench.payloads import COMPLETION, METRICS

_NGINX = """\
# Every request gets the same chat completion; traces of the gateway's exporter are taken and dropped.
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_max_body_size 64m;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location = /health {{ return 200 '{{}}'; }}
    location = /v1/traces {{ return 200 '{{}}'; }}
    location = /metrics {{ default_type text/plain; return 200 '{metrics}'; }}
    location / {{ return 200 '{completion}'; }}
  }}
}}
"""
PROGRAMS = {"wrk": "wrk", "nginx": "nginx-light", "redis-server": "redis-server"}
"""Programs that the bench needs, with their Debian packages."""


class MissingProgramsError(Exception):
    """Programs are not installed; the message says how to get them."""


def program(name: str) -> str | None:
    """Where a program is; Debian keeps nginx in a directory that is not on every PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def check_programs() -> None:
    """Raise `MissingProgramsError` if a program of the bench is missing."""
    missing = [package for name, package in PROGRAMS.items() if program(name) is None]
    if missing:
        raise MissingProgramsError(f"the bench needs more programs: apt install {' '.join(missing)}")


@dataclass(frozen=True)
class Mocks:
    """Where the mocks listen."""

    completions: str
    """URL of nginx, which answers a whole completion at once, and takes traces."""
    streams: str
    """URL of the mock that streams."""
    redis: str
    processes: tuple[Process, ...]


def start_mocks(processes: Processes, directory: Path, core: int) -> Mocks:
    """Start all three on `core`."""
    nginx, streams, redis = free_port(), free_port(), free_port()
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, port=nginx, completion=COMPLETION, metrics=METRICS))
    commands = {
        "nginx": [program("nginx") or "nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)],
        "stream-mock": [sys.executable, "-m", "loadtest.gateway_bench.stream_mock", str(streams)],
        "redis": [
            *(program("redis-server") or "redis-server", "--bind", "127.0.0.1", "--port", str(redis)),
            *("--save", "", "--appendonly", "no", "--dir", str(directory)),
        ],
    }
    started = tuple(processes.start(name, command, core) for name, command in commands.items())
    local = "127.0.0.1"
    return Mocks(f"http://{local}:{nginx}", f"http://{local}:{streams}", f"redis://{local}:{redis}/0", started)
