"""Wheels of the Python registry, pinned by hash."""

import subprocess
import sys
import zipfile
from pathlib import Path

from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.package import Package, publish, scratch_in, sha256_of, unpacked
from capstan.jobs.corpus.recipe import WheelSource


def fetch_wheel(source: WheelSource, cache: Path) -> Package:
    """Download with pip, which verifies the hash, and unpack, once. Raises `CorpusError`."""
    archives = cache / "archives"
    found = _cached(archives, source)
    if found is None:
        with scratch_in(archives) as scratch:
            fetched = _download(source, scratch)
            publish(fetched, archives / fetched.name)
            found = archives / fetched.name
    root = unpacked(found, source.sha256, cache, _unpack)
    return Package(source.package, source.version, source.sha256, found.name, root)


def _cached(archives: Path, source: WheelSource) -> Path | None:
    names = sorted(archives.glob(f"{source.package}-{source.version}-*.whl"))
    return next((path for path in names if sha256_of(path) == source.sha256), None)


def _download(source: WheelSource, scratch: Path) -> Path:
    pin = scratch / "requirements.txt"
    pin.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    command = ["-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [sys.executable, *command, "-d", str(scratch), "-r", str(pin)], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        reason = errors[0].strip() if errors else "pip gave no reason"
        raise CorpusError(f"package {source.package} {source.version} could not be downloaded ({reason})")
    return wheels[0]


def _unpack(archive: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target)
    except zipfile.BadZipFile:
        raise CorpusError(f"{archive} is damaged; delete it and run this again") from None
