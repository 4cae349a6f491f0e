"""`run` and `smoke` as a person meets them, with a simulated model and a folder of their own documents."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

QUESTION = "How do I show the commits that changed a file in git?"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A small corpus, built by the real job from a folder, and a state of its own."""
    folder = tmp_path / "handbook"
    folder.mkdir()
    text = "# Git log\n\nTo show the commits that changed a file, run git log with the name of the file.\n"
    (folder / "log.md").write_text(text)
    (folder / "pipe.txt").write_text("The pipe system call creates a pipe.\n")
    (folder / "s3.rst").write_text("S3\n==\n\nTo list the objects in a bucket, use aws s3 ls.\n")
    variables = {
        **os.environ,
        "CAPSTAN_NATIVE_STATE_DIR": str(tmp_path / "state"),
        "CAPSTAN_NATIVE_CORPUS_DIR": str(tmp_path / "corpus"),
        "CAPSTAN_NATIVE_SIMULATE": "true",
    }
    build = [os.environ["CAPSTAN_NATIVE_JOBS_PYTHON"], "-m", "capstan.jobs.corpus", "build"]
    subprocess.run([*build, "--source", str(folder), "--out", str(tmp_path / "corpus")], env=variables, check=True)
    return variables


def test_smoke_prints_its_figures_as_the_last_line(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "capstan.native", "smoke"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout
    assert set(figures) == {"setup_s", "start_s", "first_answer_s", "documents", "answers", "cited"}
    assert (figures["documents"], figures["answers"], figures["cited"]) == (3, 3, 3)


def _free_ports(unused_tcp_port_factory: "object") -> dict[str, str]:
    assert callable(unused_tcp_port_factory)
    names = ("GATEWAY", "RETRIEVER", "RERANKER", "GENERATOR", "WORKER")
    return {f"CAPSTAN_{name}_PORT": str(unused_tcp_port_factory()) for name in names}


def test_run_answers_and_ctrl_c_under_make_exits_0(
    environment: dict[str, str], tmp_path: Path, unused_tcp_port_factory: object
) -> None:
    variables = {**environment, **_free_ports(unused_tcp_port_factory)}
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"run:\n\t@{shlex.quote(sys.executable)} -m capstan.native run\n")
    terminal, other_end = pty.openpty()
    make = subprocess.Popen(
        ["make", "-f", str(makefile), "run"],
        env=variables,
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
        preexec_fn=lambda: _control(other_end),
    )
    os.close(other_end)
    try:
        shown = _read_until(terminal, "Ctrl-C stops")
        assert QUESTION in shown
        assert re.search(r"\[1\] .*\n", shown)
        assert "base_url" in shown
        asked = subprocess.run(
            [sys.executable, "-m", "capstan.native", "ask", "How do I list the objects in a bucket?"],
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "aws s3 ls" in asked.stdout
        os.write(terminal, b"\x03")
        assert "stopped" in _read_until(terminal, "stopped")
        assert make.wait(timeout=60) == 0
    finally:
        os.killpg(make.pid, signal.SIGKILL) if make.poll() is None else None
        os.close(terminal)


def _control(terminal: int) -> None:
    """Make the pseudo-terminal the controlling one of the new session."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _read_until(terminal: int, text: str) -> str:
    shown = ""
    while text not in shown:
        try:
            shown += os.read(terminal, 4096).decode(errors="replace")
        except OSError as error:  # the other end is closed
            raise AssertionError(f"{text!r} never came:\n{shown}") from error
    return shown
