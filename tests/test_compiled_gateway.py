"""The gateway as images and benchmarks run it, compiled: its own tests of requests, streams and faults once more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("test_requests.py", "test_streams.py", "test_tracing.py", "admission", "quota", "fuzz", "faults")


@pytest.fixture(scope="module")
def compiled() -> Path:
    command = [sys.executable, str(ROOT / "native/bootstrap.py"), "compiled"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.mark.timeout(600)
def test_the_compiled_gateway_passes_the_gateways_own_tests(compiled: Path, pytestconfig: pytest.Config) -> None:
    assert list(compiled.glob("capstan/gateway/endpoint.*.so"))
    path = [str(compiled), *pytestconfig.getini("pythonpath")]
    suites = [str(ROOT / "services/gateway/tests" / name) for name in SUITES]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-o",
        f"pythonpath={' '.join(map(str, path))}",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(compiled), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, *suites], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
