"""A fetched package, and the cache that keeps packages between builds."""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PARTIAL = ".partial-"
_LEFTOVER_S = 3600


@dataclass(frozen=True, slots=True)
class Package:
    """A package on disk: `archive` is the .deb or .whl, `root` the directory with its files."""

    name: str
    version: str
    sha256: str
    archive: str
    root: Path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def scratch_in(directory: Path) -> Iterator[Path]:
    """A temporary directory on the same file system as `directory`, so that a rename out of it is atomic.

    What a killed process left behind is removed when it is an hour old.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(f"{_PARTIAL}*"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
            shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=_PARTIAL, ignore_cleanup_errors=True) as name:
        yield Path(name)


def publish(finished: Path, target: Path) -> None:
    """Rename into place. Where another process was faster, its copy stays."""
    try:
        finished.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(finished, ignore_errors=True)


def unpacked(archive: Path, sha256: str, cache: Path, unpack: Callable[[Path, Path], None]) -> Path:
    """The directory with the archive's files; unpacked once, under a name that its content decides."""
    target = cache / "unpacked" / f"{archive.name.split('_')[0].split('-py3')[0]}-{sha256[:16]}"
    if not target.is_dir():
        with scratch_in(target.parent) as scratch:
            files = scratch / "files"
            files.mkdir()
            unpack(archive, files)
            publish(files, target)
    return target
