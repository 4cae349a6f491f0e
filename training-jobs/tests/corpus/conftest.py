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


@pytest.fixture(scope="session")
def make_pdf() -> Callable[..., bytes]:
    return _make_pdf


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


def _make_pdf(pages: list[list[str]], title: str = "") -> bytes:
    """A PDF of one font and one text line below the other."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        text = "\n".join(f"1 0 0 1 72 {720 - 14 * row} Tm ({line}) Tj" for row, line in enumerate(page))
        stream = f"BT /F1 12 Tf\n{text}\nET".encode()
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{k} 0 R' for k in kids)}] >>".encode()
    objects.append(f"<< /Title ({title}) >>".encode())
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size, info = len(objects) + 1, len(objects)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, info, start)
    return bytes(out)
