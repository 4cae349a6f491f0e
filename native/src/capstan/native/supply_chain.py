"""The packages that Capstan stands on: known vulnerabilities in them (`audit`), and bills of materials (`sbom`).

Started by `make audit` and `make sbom` in an environment of its own, which holds pip-audit and cyclonedx-bom.

`audit` asks about every version that an environment of native/bootstrap.py pins. Exit code 1: there are known
vulnerabilities. 2: no answer about some packages, which must not pass for a good one.
"""

import argparse
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("CAPSTAN_NATIVE_ROOT") or Path(__file__).parents[4])
MATERIALS = ("services", "worker")
"""Environments that serve: their packages are those of the images."""
_PIN = re.compile(r"^[A-Za-z0-9][\w.-]*(?:\[[\w,.-]+\])?==[^\s;\\]+", re.MULTILINE)


class SupplyChainError(Exception):
    """A tool could not do its work, or there is no such environment; the message says why."""


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """A published one, in a package that is pinned. `fixed`: versions without it."""

    package: str
    id: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.package}: {self.id}, " + (f"fixed in {' or '.join(self.fixed)}" if self.fixed else "not fixed")


@dataclass(frozen=True, slots=True)
class Audit:
    """Of one environment: how many packages were asked about, what is known, and where there was no answer."""

    asked: int
    vulnerabilities: tuple[Vulnerability, ...]
    unanswered: tuple[str, ...]


def environments() -> dict[str, tuple[str, ...]]:
    """The requirement files of each environment, by its name."""
    found = runpy.run_path(str(ROOT / "native/bootstrap.py"))["ENVIRONMENTS"]
    return {name: environment.requirements for name, environment in found.items()}


def pins(files: Sequence[str]) -> list[str]:
    """The pinned versions in requirement files, `name==version`."""
    return sorted({pin for file in files for pin in _PIN.findall((ROOT / file).read_text())})


def audit(requirements: Sequence[str], options: Sequence[str]) -> Audit:
    """Ask about these pins. `options` are pip-audit's. Raises `SupplyChainError`."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements) + "\n")
        file.flush()
        command = ["pip_audit", "--requirement", file.name, "--no-deps", "--disable-pip", "--format", "json"]
        said = _run([*command, "--progress-spinner", "off", *options], allowed=(0, 1))
    try:
        rows = json.loads(said.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise SupplyChainError(f"pip-audit: {_last_line(said)}") from None
    unanswered = tuple(str(row["name"]) for row in rows if "vulns" not in row)
    return Audit(len(rows), tuple(_vulnerabilities(rows)), unanswered)


def _vulnerabilities(rows: Sequence[dict[str, Any]]) -> Iterator[Vulnerability]:
    for row in rows:
        for found in row.get("vulns", []):
            names = ", ".join([found["id"], *found.get("aliases", [])])
            yield Vulnerability(f"{row['name']} {row['version']}", names, tuple(found["fix_versions"]))


def audit_all(names: Sequence[str], options: Sequence[str]) -> int:
    """Audit the named environments, or all, and say what is found. The exit code. Raises `SupplyChainError`."""
    known = environments()
    if unknown := sorted({*names} - {*known}):
        raise SupplyChainError(f"there is no environment {unknown[0]}; there are {', '.join(known)}")
    found: dict[str, Audit] = {}
    for name in names or known:
        result = found[name] = audit(pins(known[name]), options)
        gap = f", no answer about {len(result.unanswered)}" if result.unanswered else ""
        print(f"{name}: {result.asked} packages, {len(result.vulnerabilities)} vulnerabilities{gap}", flush=True)
        for vulnerability in result.vulnerabilities:
            print(f"  {vulnerability}")
    unanswered = sorted({name for result in found.values() for name in result.unanswered})
    if unanswered:
        print(
            f"error: no answer about {len(unanswered)} packages ({', '.join(unanswered[:5])}, …): the package index "
            "that is reached from here has no vulnerability data for them. Run this where PyPI's own is reached, or "
            'where OSV is, with ARGS="--service osv"',
            file=sys.stderr,
        )
    if any(result.vulnerabilities for result in found.values()):
        return 1
    return 2 if unanswered else 0


def write_sbom(name: str, out: Path) -> Path:
    """Write the bill of materials (CycloneDX, JSON) of an environment that is installed. Raises `SupplyChainError`."""
    file = out / f"{name}.cdx.json"
    python = os.environ[f"CAPSTAN_NATIVE_{name.upper()}_PYTHON"]
    options = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(file)]
    _run(["cyclonedx_py", "environment", *options, python], allowed=(0,))
    return file


def _run(module: Sequence[str], *, allowed: Sequence[int]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True)
    if done.returncode not in allowed:
        raise SupplyChainError(f"{module[0].replace('_', '-')}: {_last_line(done)}")
    return done


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last thing that a tool said; of a traceback, the error."""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit code {done.returncode}, without a word"


def main() -> int:
    """Command line entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="supply_chain", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    auditing = commands.add_parser("audit", help="known vulnerabilities in the pinned packages")
    auditing.add_argument("environment", nargs="*", help="environments of native/bootstrap.py; none: all")
    auditing.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="whom to ask")
    auditing.add_argument("--osv-url", help="where OSV's API is, if it is not the public one")
    auditing.add_argument("--ignore", action="append", default=[], metavar="ID", help="a vulnerability to leave out")
    materials = commands.add_parser("sbom", help="bills of materials, CycloneDX")
    materials.add_argument("environment", nargs="*", choices=[*MATERIALS, []], help="none: both")
    materials.add_argument("--out", type=Path, default=Path("sbom"), help="directory (default: sbom)")
    arguments = parser.parse_args()
    try:
        if arguments.command == "audit":
            return audit_all(arguments.environment, _options(arguments))
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name in arguments.environment or MATERIALS:
            file = write_sbom(name, arguments.out)
            print(f"{file}: {len(json.loads(file.read_text())['components'])} packages")
    except SupplyChainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _options(arguments: argparse.Namespace) -> list[str]:
    """pip-audit's."""
    options = ["--vulnerability-service", arguments.service]
    options += ["--osv-url", arguments.osv_url] if arguments.osv_url else []
    return options + [part for name in arguments.ignore for part in ("--ignore-vuln", name)]


if __name__ == "__main__":
    sys.exit(main())
