"""A Docker engine for tests: the one that answers, or one that is installed and started where that is allowed."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ["CAPSTAN_CACHE_DIR"])
PACKAGES = ("docker.io", "mmdebstrap", "iptables")
_START_S, _ATTEMPTS = 60, 4


class NoEngineError(Exception):
    """Docker cannot run here; the message says why."""


@contextmanager
def docker_engine() -> Iterator[None]:
    """A Docker engine answers inside. One that was started here ends with it; its images stay in the cache.

    Raises `NoEngineError`.
    """
    if _answers():
        yield
        return
    if os.geteuid() != 0:
        raise NoEngineError("no Docker engine answers, and starting one takes root")
    if shutil.which("dockerd") is None:
        _install()
    data = CACHE / "docker"
    data.mkdir(parents=True, exist_ok=True)
    daemon = _start(data)
    try:
        yield
    finally:
        _end(daemon)


def _start(data: Path) -> "subprocess.Popen[bytes]":
    """A daemon that answers. It gives containerd 15 s to start, too few for a busy machine's first read of it."""
    log = data / "dockerd.log"
    command = ["dockerd", "--data-root", str(data / "root"), "--pidfile", str(data / "dockerd.pid")]
    attempts_left = _ATTEMPTS
    while True:
        with log.open("w") as output:
            daemon = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            _await(daemon, log)
        except BaseException as error:  # an interrupt too: the daemon's session is its own
            _end(daemon)
            attempts_left -= 1
            if not attempts_left or "containerd" not in str(error):
                raise
        else:
            return daemon


def _end(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    daemon.wait(timeout=60)


def _install() -> None:
    if not os.environ.get("CI") or shutil.which("apt-get") is None:
        raise NoEngineError(f"no Docker engine is installed: apt-get install {' '.join(PACKAGES)} (CI=true does it)")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True, env=environment)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    done = subprocess.run(install, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise NoEngineError(f"Docker could not be installed: {done.stderr.strip().splitlines()[-1:]}")


def _await(daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_S
    while not _answers():
        if daemon.poll() is not None or time.monotonic() > until:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise NoEngineError(f"dockerd does not start here: {last}")
        time.sleep(0.2)


def _answers() -> bool:
    return shutil.which("docker") is not None and not subprocess.run(["docker", "info"], capture_output=True).returncode
