"""Compiles the gateway's request path to C extensions with mypyc, for images and benchmarks.

    python services/gateway/compile.py --out DIRECTORY

The result is the package `capstan.gateway` with an extension beside each compiled module; put the directory in front of
`services/gateway/src` on the path. The sources stay what they are, typed Python, and run without this step too.
Needs a C compiler, mypy and setuptools, and the service's own packages.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "src"
COMMON = ROOT.parent / "common" / "src"
MODULES = (
    "accesslog", "admission", "api", "auth", "balance", "dispatch", "endpoint", "exchange", "fair_queue", "health",
    "ledger", "limiter", "member", "metering", "metrics", "outcome", "pace", "pool", "prefix", "prices", "quota",
    "quota_redis", "record", "redis_pipe", "relay", "request", "retry_budget", "routing", "tap", "tracing", "upstream",
    "upstream_connection",
)  # fmt: skip
"""What a request passes through. Not `connection`, whose base is uvicorn's, nor what FastAPI and pydantic read."""

_MYPY = """\
[mypy]
python_version = 3.11
plugins = pydantic.mypy
namespace_packages = true
explicit_package_bases = true
ignore_missing_imports = true
"""
_SETUP = """\
from mypyc.build import mypycify
from setuptools import setup

modules = mypycify(["--config-file", "mypy.ini", *{paths!r}], opt_level="3", debug_level="0", group_name="gateway")
setup(name="capstan-gateway-compiled", package_dir={{"": "src"}}, packages=[], ext_modules=modules)
"""


def compile_into(out: Path) -> None:
    """Build in a scratch directory beside `out` and rename the result into place. Raises `CalledProcessError`."""
    scratch = out.with_name(f"{out.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(SOURCES, scratch / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (scratch / "mypy.ini").write_text(_MYPY)
    paths = [f"src/capstan/gateway/{name}.py" for name in MODULES]
    (scratch / "setup.py").write_text(_SETUP.format(paths=paths))
    environment = {**os.environ, "MYPYPATH": f"src{os.pathsep}{COMMON}"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", str(os.cpu_count() or 1)]
    try:
        done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
        if not out.exists():
            (scratch / "src").rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description="Compile the gateway's request path with mypyc.")
    parser.add_argument("--out", type=Path, required=True, help="directory to make; nothing is done where it exists")
    out = parser.parse_args().out.absolute()
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        compile_into(out)
    except subprocess.CalledProcessError:
        sys.exit("error: the gateway could not be compiled; is a C compiler installed?")


if __name__ == "__main__":
    main()
