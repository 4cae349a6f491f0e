"""The bootstrap, without installing anything."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    import importlib.util

    monkeypatch.setenv("CAPSTAN_CACHE_DIR", str(tmp_path))
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "native/bootstrap.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bootstrap", module)
    spec.loader.exec_module(module)
    return module


def test_an_environment_is_named_by_what_it_holds(bootstrap: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("six==1.16.0\n")
    second.write_text("six==1.17.0\n")
    names = {bootstrap.directory(bootstrap.Environment("x", (str(path),))).name for path in (first, second, first)}
    assert len(names) == 2


def test_an_environment_installs_once_and_sees_its_base(bootstrap: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing to install\n")
    environments = bootstrap.ENVIRONMENTS
    environments.clear()
    environments["base"] = bootstrap.Environment("base", (str(empty),))
    environments["top"] = bootstrap.Environment("top", (str(empty),), on=("base",))
    python = bootstrap.ensure("top")
    base = bootstrap.directory(environments["base"])
    path = subprocess.run([python, "-c", "import sys; print(sys.path)"], capture_output=True, text=True).stdout
    assert str(base) in path
    built = python.stat().st_ctime_ns, (base / "complete").stat().st_mtime_ns
    assert bootstrap.ensure("top") == python
    assert built == (python.stat().st_ctime_ns, (base / "complete").stat().st_mtime_ns)
    (base / "complete").unlink()  # as an interrupted build leaves it
    bootstrap.ensure("base")
    assert (base / "complete").exists()


def test_a_failed_install_says_so_and_is_not_kept(bootstrap: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("file:///nowhere/no-such-package.whl\n")
    bootstrap.ENVIRONMENTS["wrong"] = bootstrap.Environment("wrong", (str(wrong),))
    with pytest.raises(bootstrap.SetupError, match="wrong environment could not be installed"):
        bootstrap.ensure("wrong")
    assert not (bootstrap.directory(bootstrap.ENVIRONMENTS["wrong"]) / "complete").exists()


def _native(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    command = [sys.executable, "-m", "capstan.native", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)


def test_asking_without_a_stack_says_what_to_do(tmp_path: Path) -> None:
    done = _native("ask", "What?", CAPSTAN_NATIVE_STATE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (2, "error: no stack is running here: start one with 'make run'\n")


def test_an_empty_question_says_how_to_ask(tmp_path: Path) -> None:
    done = _native("ask", " ", CAPSTAN_NATIVE_STATE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "make ask Q=" in done.stderr


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path, unused_tcp_port_factory: Any) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        free = {f"CAPSTAN_{name}_PORT": str(unused_tcp_port_factory()) for name in ("GATEWAY", "RETRIEVER")}
        done = _native("run", CAPSTAN_NATIVE_STATE_DIR=str(tmp_path), CAPSTAN_RERANKER_PORT=port, **free)
    assert done.returncode == 2
    assert f"port {port} is taken; stop what uses it or set CAPSTAN_RERANKER_PORT" in done.stderr
    assert not (tmp_path / "logs").exists()


def test_the_documents_are_those_of_ones_own_folder(
    bootstrap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SOURCE=handbook make run`, by the real job."""
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "leave.md").write_text("# Leave\n\nAsk your lead two weeks before the first day.\n")
    monkeypatch.setenv("SOURCE", str(folder))
    monkeypatch.setattr(bootstrap, "python_of", lambda name: Path(sys.executable))
    bootstrap.build_corpus()
    documents = (bootstrap.corpus_directory() / "documents.jsonl").read_text()
    assert "two weeks before" in documents
