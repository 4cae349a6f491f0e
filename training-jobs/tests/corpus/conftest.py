import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from capstan.common.settings import CommonSettings, load
from capstan.jobs.corpus.apt import Apt
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.progress import Steps


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def steps(log: io.StringIO) -> Steps:
    return Steps(Console(file=log, force_terminal=False, soft_wrap=True, highlight=False))


@pytest.fixture(scope="session")
def mandoc() -> Path:
    """The real formatter: the installed one, or the one that the job itself would fetch."""
    if found := shutil.which("mandoc"):
        return Path(found)
    cache = load(CommonSettings).cache_dir / "corpus"
    for binary in cache.glob("unpacked/mandoc-*/usr/bin/mandoc"):
        return binary
    if not Apt.available():
        pytest.skip("neither mandoc nor apt on this machine")
    apt = Apt(cache)
    try:
        apt.update()
        candidate = apt.candidate("mandoc")
        assert candidate is not None
        return apt.fetch(candidate).root / "usr/bin/mandoc"
    except CorpusError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_deb() -> Callable[[Path, str, str, dict[str, str]], Path]:
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg on this machine")
    return _make_deb


def _make_deb(directory: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A real Debian package with these files."""
    tree = directory / f"{name}-{version}"
    for path, content in {**files, "DEBIAN/control": _control(name, version)}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content, encoding="utf-8")
    archive = directory / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, archive], check=True, capture_output=True)
    shutil.rmtree(tree)
    return archive


def _control(name: str, version: str) -> str:
    return f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: test\n"
