"""The programs of Prometheus and Alertmanager as Debian packages them, unpacked and not installed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from capstan.jobs.corpus.apt import Apt
from capstan.jobs.corpus.errors import CorpusError

PACKAGES = ("prometheus", "prometheus-alertmanager")


@dataclass(frozen=True)
class Tools:
    """Paths of the programs."""

    prometheus: Path
    promtool: Path
    amtool: Path

    def check(self, tool: Path, *arguments: str | Path) -> None:
        """Run a program's check; a failure shows what it said."""
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def fetch_tools(cache: Path) -> Tools:
    """From the cache, else from the distribution's archive. Skips the test with the reason where that fails."""
    if not Apt.available():
        pytest.skip("Prometheus comes from Debian's archive, and this machine has no apt and dpkg")
    apt = Apt(cache / "tools")
    found = []
    try:
        apt.update()
        for name in PACKAGES:
            candidate = apt.candidate(name)
            if candidate is None:
                pytest.skip(f"the distribution's archive has no package {name}, or cannot be reached")
            found.append(apt.fetch(candidate).root / "usr/bin")
    except CorpusError as error:
        pytest.skip(f"Prometheus cannot be fetched: {error}")
    prometheus, alertmanager = found
    return Tools(
        prometheus / "prometheus",
        prometheus / "promtool",
        alertmanager / "amtool",
    )
