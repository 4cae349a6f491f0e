"""Debian packages without root: private apt state, the system's sources and keys, nothing installed."""

import fnmatch
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.package import Package, publish, scratch_in, sha256_of, unpacked

_TOOLS = ("apt-get", "apt-cache", "dpkg-deb")
_LISTS_GOOD_FOR_S = 24 * 3600
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """The version of a package that apt would take; `file` is apt's name for its archive."""

    name: str
    version: str
    file: str
    sha256: str


class Apt:
    """apt-get for a user who may not be root and a machine whose package lists may be empty."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._state = cache / "apt"
        self._archives = cache / "archives"

    @staticmethod
    def available() -> bool:
        """Whether this machine has apt and dpkg."""
        return all(shutil.which(tool) for tool in _TOOLS)

    def update(self, *, force: bool = False) -> None:
        """Fetch the package lists, unless those from before are less than a day old.

        A source that cannot be reached is no error here: `candidate` tells what is missing for it.
        """
        stamp = self._state / "updated"
        if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < _LISTS_GOOD_FOR_S:
            return
        for part in ("lists/partial", "cache/archives/partial"):
            (self._state / part).mkdir(parents=True, exist_ok=True)
        done = self._run("apt-get", "update", "-q")
        if any((self._state / "lists").glob("*Packages*")):
            stamp.touch()
        else:
            raise CorpusError(f"apt-get update gave no package lists ({_last_line(done)}); check the network")

    def candidate(self, pattern: str) -> Candidate | None:
        """The package that matches a wildcard pattern, of several the one whose name has the highest numbers."""
        literal = re.split(r"[\[*?]", pattern)[0]
        names = self._run("apt-cache", "pkgnames", literal).stdout.split()
        for name in sorted(filter(lambda n: fnmatch.fnmatchcase(n, pattern), names), key=_numbers, reverse=True):
            found = _URI.search(self._run("apt-get", "download", "--print-uris", name).stdout)
            if found:
                version = found["file"].split("_")[1].replace("%3a", ":")
                return Candidate(name, version, found["file"], found["sha256"])
        return None

    def fetch(self, candidate: Candidate) -> Package:
        """Download, verify and unpack, each step only if it was not done before. Raises `CorpusError`."""
        archive = self._archives / candidate.file
        if not archive.is_file():
            with scratch_in(self._archives) as scratch:
                done = self._run("apt-get", "download", "-q", candidate.name, cwd=scratch)
                fetched = scratch / candidate.file
                if not fetched.is_file() or sha256_of(fetched) != candidate.sha256:
                    raise CorpusError(f"package {candidate.name} could not be downloaded ({_last_line(done)})")
                publish(fetched, archive)
        return Package(candidate.name, candidate.version, candidate.sha256, candidate.file, self.unpack(archive))

    def unpack(self, archive: Path) -> Path:
        """The directory with the files of a .deb."""
        return unpacked(archive, sha256_of(archive), self._cache, _unpack_deb)

    def _run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        options = {
            "Dir::State::lists": self._state / "lists",
            "Dir::Cache": self._state / "cache",
            "Dir::Cache::pkgcache": "pkgcache.bin",  # container images switch these two off, and a look-up takes 1 s
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "APT::Sandbox::User": "",  # downloads as the user who asks, into that user's directories
            "Debug::NoLocking": "1",
            "Acquire::Retries": "3",
        }
        flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [command[0], *flags, *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )


def _unpack_deb(archive: Path, target: Path) -> None:
    done = subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CorpusError(f"{archive} cannot be unpacked ({_last_line(done)}); delete it and run this again")


def _numbers(name: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", name)], name


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.startswith(("E:", "W:", "dpkg-deb"))]
    return lines[-1] if lines else "no reason given"
