"""Hashes of the packages in images, so that a build installs these files and no others of the same version.

    python3 compose/images/hashes.py write --wheelhouse DIR    after `make wheelhouse`, when a pin has changed
    python3 compose/images/hashes.py split FILE --out DIR      in a build (install.sh): what has a hash, what has none

`hashes.txt` has one line for each pin: the wheel for CPython 3.11 on x86-64. Elsewhere packages are pinned by their
versions alone, and so is torch everywhere: the same version is another file on each index. Standard library only.
"""

import argparse
import hashlib
import platform
import re
import sys
from pathlib import Path

HASHES = Path(__file__).with_name("hashes.txt")
ROOT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = (
    "services/*/requirements*.txt",
    "training-jobs/requirements/*.txt",
    "native/requirements-compiler.txt",
)
WITHOUT = ("torch",)
_PLATFORM = ("x86_64", (3, 11))


def pins(file: Path) -> dict[str, str]:
    """The lines of a requirement file, by `name==version` with the name as PEP 503 writes it."""
    lines = (line.partition(" #")[0].strip() for line in file.read_text().splitlines())
    return {_canonical(line.split()[0]): line for line in lines if line and not line.startswith("#")}


def read(file: Path = HASHES) -> dict[str, str]:
    """The lines of `hashes.txt`, by pin."""
    return {line.split()[0]: line for line in file.read_text().splitlines() if not line.startswith("#")}


def write(wheelhouse: Path, file: Path = HASHES) -> int:
    """Write `hashes.txt` anew from the wheels of all images. How many pins have a hash."""
    wanted = {pin for pattern in REQUIREMENTS for path in ROOT.glob(pattern) for pin in pins(path)}
    found: dict[str, set[str]] = {}
    for wheel in wheelhouse.glob("*/*.whl"):
        pin = _canonical("==".join(wheel.name.split("-")[:2]))
        if pin in wanted and pin.partition("==")[0] not in WITHOUT:
            found.setdefault(pin, set()).add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    head = "# Of the wheels for CPython 3.11 on x86-64; written by hashes.py.\n"
    lines = (" ".join([pin, *(f"--hash=sha256:{digest}" for digest in sorted(found[pin]))]) for pin in sorted(found))
    file.write_text(head + "".join(f"{line}\n" for line in lines))
    return len(found)


def split(file: Path, out: Path, hashes: dict[str, str]) -> None:
    """Write the requirement file as two: `hashed.txt`, which pip checks, and `plain.txt`. Either may be empty."""
    lines = {pin: line if "--hash=" in line else hashes.get(pin, line) for pin, line in pins(file).items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, hashed in (("hashed", True), ("plain", False)):
        chosen = [line for line in lines.values() if ("--hash=" in line) is hashed]
        (out / f"{name}.txt").write_text("".join(f"{line}\n" for line in chosen))


def _canonical(pin: str) -> str:
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("--wheelhouse", type=Path, default=ROOT / "compose/wheelhouse")
    splitting = commands.add_parser("split")
    splitting.add_argument("file", type=Path)
    splitting.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "split":
        fits = (platform.machine(), sys.version_info[:2]) == _PLATFORM
        split(args.file, args.out, read() if fits else {})
    elif count := write(args.wheelhouse):
        print(f"{HASHES.name}: {count} packages")
    else:
        sys.exit(f"error: {args.wheelhouse} holds no wheel of an image: run 'make wheelhouse' first")


if __name__ == "__main__":
    main()
