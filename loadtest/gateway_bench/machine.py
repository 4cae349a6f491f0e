"""Processes pinned to a core, and what they cost: memory and CPU time from /proc."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOP_S = 8.0


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def busy_s(core: int) -> float:
    """Seconds that a core has worked since the machine started, for whomever."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, line.split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


@dataclass(frozen=True)
class Process:
    """A process with all its children (one process group), pinned to a core."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the whole group."""
        if self.running:
            os.killpg(self.popen.pid, number)

    def rss_mb(self) -> float:
        """Resident memory of the group, in MB (10^6 bytes)."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._members())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_s(self) -> float:
        """CPU seconds, user and system, that the group has used."""
        fields = (_stat(pid) for pid in self._members())
        return sum(int(stat[11]) + int(stat[12]) for stat in fields) / _TICKS_PER_S

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return "\n  ".join(lines[-5:]) or "(it wrote nothing)"

    def _members(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    group = int(_stat(int(entry.name))[2])
                except (OSError, IndexError):  # it ended meanwhile
                    continue
                if group == self.popen.pid:
                    yield int(entry.name)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, group, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Processes:
    """Starts processes and, at the end of its block, stops every one of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Process] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave anything behind
        self.stop(*reversed(self._started))
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(
        self, name: str, command: Sequence[str], core: int, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start `command` on `core`; its output goes to a log of its name."""
        log = self._directory / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # a group of its own, which Ctrl-C does not reach: we stop it
            )
        process = Process(name, popen, log)
        self._started.append(process)
        return process

    def stop(self, *processes: Process) -> None:
        """Stop processes: SIGTERM, and SIGKILL for what is left after some seconds."""
        for process in processes:
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        deadline = time.monotonic() + _STOP_S
        for process in processes:
            try:
                process.popen.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.signal(signal.SIGKILL)
                process.popen.wait()
            if process in self._started:
                self._started.remove(process)


@contextmanager
def awake(process: Process | None) -> Iterator[None]:
    """A process that sleeps (SIGSTOP) outside this block, so that it leaves its core to the others."""
    if process is None:
        yield
        return
    process.signal(signal.SIGCONT)
    try:
        yield
    finally:
        process.signal(signal.SIGSTOP)
