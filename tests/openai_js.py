"""Runs the suite of the `openai` client for JavaScript (`tests/openai-js`) with Node.js."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "openai-js"


def run_suite(cache: Path, scratch: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run it with `environment` added; everything it says is in `stdout`."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not found: install Node.js 20 or newer with npm", pytrace=False)
    for script in SUITE.glob("*.mjs"):
        shutil.copy(script, scratch)
    (scratch / "node_modules").symlink_to(_installed(cache) / "node_modules")
    return subprocess.run(
        ["node", "--test", "--test-reporter=spec", "--test-timeout=120000", "--test-force-exit", str(scratch)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _installed(cache: Path) -> Path:
    """The directory with the packages that the lock file names; installed by the first who asks."""
    digest = hashlib.sha256((SUITE / "package-lock.json").read_bytes()).hexdigest()[:16]
    target = cache / "node" / f"openai-js-{digest}"
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may be installing the same
        if not (target / "complete").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SUITE / name, target)
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=target, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                pytest.fail(f"'npm ci' for tests/openai-js failed:\n{done.stdout}", pytrace=False)
            (target / "complete").touch()
    return target
