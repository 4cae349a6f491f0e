import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("CAPSTAN_")}


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.run(
        [sys.executable, "-m", "capstan.jobs.corpus", *map(str, arguments)],
        env={**ENVIRONMENT, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_build_and_build_again(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nText.\n")
    first = run("build", "--source", tmp_path / "docs", "--out", tmp_path / "out")
    assert (first.returncode, first.stdout) == (0, "")
    assert f"corpus: 1 documents, 1 sections, 0.0 MB of text in {tmp_path / 'out'}" in first.stderr
    again = run("build", "--source", tmp_path / "docs", "--out", tmp_path / "out")
    assert again.returncode == 0
    assert again.stderr.startswith("corpus is up to date: 1 documents")


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["build", "--source", "nowhere", "--out", "out"], {}, "error: source folder nowhere does not exist"),
        (["build", "--recipe", "no.yaml", "--out", "out"], {}, "error: recipe no.yaml cannot be read"),
        (["load", "--corpus", "out", "--retriever", "http://127.0.0.1:1"], {}, "error: CAPSTAN_IDENTITY_SECRET"),
        (
            ["load", "--corpus", "out", "--retriever", "http://127.0.0.1:1"],
            {"CAPSTAN_IDENTITY_SECRET": "x" * 32},
            "error: out holds no corpus",
        ),
        (["build", "--source", "x", "--out", "out"], {"CAPSTAN_JOBS_COLOUR": "red"}, "error: CAPSTAN_JOBS_COLOUR"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], environment: dict[str, str], message: str) -> None:
    done = run(*arguments, **environment)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for n in range(3000):
        (docs / f"{n}.md").write_text(f"# {n}\n\n" + "Some text.\n\n" * 50)
    command = [sys.executable, "-m", "capstan.jobs.corpus", "build", "--processes", "2"]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [*command, "--source", str(docs), "--out", str(tmp_path / "out")],
        env={**ENVIRONMENT, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Ignored in what a shell starts in the background, this run of the tests perhaps, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "extract docs: 3000 pages\n"
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        rest = process.stderr.read()
    assert rest == "stopped; nothing half-written is left, what was downloaded stays in the cache\n"
    assert process.returncode == 130
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Text.")
    (tmp_path / "file").write_text("")
    done = run("build", "--source", tmp_path, "--out", tmp_path / "file")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'file'}")
    assert "Traceback" not in done.stderr
