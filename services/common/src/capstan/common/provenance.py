"""Where a measured figure comes from: the head of every committed result."""

import datetime
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_SECRET = re.compile(r"(--(?:[\w-]+-)?(?:key|token|password|secret)[ =])\S+")
_CREDENTIALS = re.compile(r"//[^/\s@]+@")


def provenance(command: str | None = None) -> dict[str, Any]:
    """Command (by default this process's own), commit, date and machine of a measurement."""
    return {
        "command": command or _own_command(),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cpus": os.cpu_count(),
            "cpu": _cpu(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "platform": platform.machine(),
            "load_1m": round(os.getloadavg()[0], 2),
        },
    }


def _own_command() -> str:
    """The command line; absolute paths are another machine's business and cut to their names, secrets are nobody's."""
    parts = (Path(part).name if Path(part).is_absolute() else part for part in sys.argv)
    command = _CREDENTIALS.sub("//…@", " ".join(["python", *parts]))
    return _SECRET.sub(r"\1…", command)


def _commit() -> str:
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name and the widest vector instructions it has."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name = next(
        (line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "unknown"
    )
    flags = set(text.split())
    widest = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    return f"{name} ({widest})" if widest else name
