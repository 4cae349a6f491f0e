import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pdf_files import make_pdf

from capstan.jobs.corpus.build import build_folder
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.manifest import DOCUMENTS, MANIFEST
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.corpus.progress import Steps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "note.txt").write_text("Hidden.")
    (folder / "deep" / "guide.md").write_text("# Guide\n\nRead this.\n")
    (folder / "deep" / "er" / "page.html").write_text("<title>Page</title><p>Web text.</p>")
    (folder / "task.rst").write_text("Task\n====\n\nDo it.\n")
    (folder / "wifi.txt").write_text("The password is swordfish.")
    (folder / "manual.pdf").write_bytes(make_pdf([["Turn the wheel."]]))
    return folder


def documents(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / DOCUMENTS).read_text(encoding="utf-8").splitlines()]


def test_all_kinds_at_any_depth(folder: Path, tmp_path: Path, steps: Steps) -> None:
    built = build_folder(folder, tmp_path / "out", steps)
    found = {d["id"]: d for d in documents(tmp_path / "out")}
    assert set(found) == {
        "handbook/deep/er/page.html",
        "handbook/deep/guide.md",
        "handbook/manual.pdf",
        "handbook/task.rst",
        "handbook/wifi.txt",
    }
    guide = found["handbook/deep/guide.md"]
    assert (guide["title"], guide["source"], guide["url"]) == ("Guide", "handbook", "handbook:deep/guide.md")
    assert guide["sections"] == [{"heading": [], "text": "Read this."}]
    assert found["handbook/wifi.txt"]["title"] == "wifi"
    assert built.manifest["total"]["documents"] == 5


def test_the_manifest_vouches_for_the_documents(folder: Path, tmp_path: Path, steps: Steps) -> None:
    manifest = build_folder(folder, tmp_path / "out", steps).manifest
    assert json.loads((tmp_path / "out" / MANIFEST).read_text()) == manifest
    assert manifest["documents_sha256"] == sha256_of(tmp_path / "out" / DOCUMENTS)
    texts = [section["text"] for d in documents(tmp_path / "out") for section in d["sections"]]
    assert manifest["total"]["sections"] == len(texts)
    assert manifest["total"]["characters"] == sum(map(len, texts))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [DOCUMENTS, MANIFEST]


def test_the_same_files_give_the_same_bytes(folder: Path, tmp_path: Path, steps: Steps) -> None:
    for name in ("one", "two"):
        build_folder(folder, tmp_path / name, steps)
    for name in (DOCUMENTS, MANIFEST):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_processes_do_not_change_the_result(tmp_path: Path, steps: Steps) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nText {number}.\n")
    one = build_folder(folder, tmp_path / "one", steps, processes=1).manifest
    two = build_folder(folder, tmp_path / "two", steps, processes=2).manifest
    assert one == two
    assert two["total"]["documents"] == 200


def test_a_second_build_does_nothing_until_something_changes(folder: Path, tmp_path: Path, steps: Steps) -> None:
    out = tmp_path / "out"
    assert build_folder(folder, out, steps).fresh
    assert not build_folder(folder, out, steps).fresh
    (folder / "task.rst").write_text("Task\n====\n\nDo it twice.\n")
    assert build_folder(folder, out, steps).fresh
    with (out / DOCUMENTS).open("ab") as file:
        file.write(b"damage")
    assert build_folder(folder, out, steps).fresh
    assert not build_folder(folder, out, steps).fresh


def test_files_that_do_not_fit_are_skipped_counted_and_named(
    folder: Path, tmp_path: Path, steps: Steps, log: io.StringIO
) -> None:
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "empty.md").write_text("")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4")
    (folder / "copy.txt").write_text("The password is swordfish.")
    manifest = build_folder(folder, tmp_path / "out", steps).manifest
    assert manifest["total"]["documents"] == 5
    assert manifest["total"]["dropped"] == {"broken": 1, "duplicate": 1, "empty": 1, "unsupported": 1}
    said = log.getvalue()
    assert "skipped photo.jpg: no supported kind of file" in said
    assert "skipped handbook:empty.md: no text" in said
    assert "skipped handbook:broken.pdf: not readable as PDF" in said


def test_many_skipped_files_are_named_in_part(folder: Path, tmp_path: Path, steps: Steps, log: io.StringIO) -> None:
    for number in range(9):
        (folder / f"{number}.png").write_bytes(b"x")
    build_folder(folder, tmp_path / "out", steps)
    assert log.getvalue().count(".png: no supported") == 5
    assert "skipped 4 more files" in log.getvalue()


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(folder: Path, tmp_path: Path, steps: Steps) -> None:
    os.mkfifo(folder / "pipe.txt")
    assert build_folder(folder, tmp_path / "out", steps).manifest["total"]["documents"] == 5


def test_a_dangling_link_is_skipped(folder: Path, tmp_path: Path, steps: Steps, log: io.StringIO) -> None:
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert build_folder(folder, tmp_path / "out", steps).manifest["total"]["documents"] == 5
    assert "skipped handbook:gone.txt: No such file or directory" in log.getvalue()


def test_file_names_that_are_not_utf8(folder: Path, tmp_path: Path, steps: Steps) -> None:
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("Coffee.")
    build_folder(folder, tmp_path / "out", steps)
    assert "handbook/caf\ufffd.txt" in {d["id"] for d in documents(tmp_path / "out")}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text("x"), "is a file; name the folder"),
        (lambda path: path.mkdir(), "holds no html, md, rst, txt or pdf file"),
        (lambda path: (path.mkdir(), (path / "a.md").write_text(" \n")), "no document is left"),
    ],
    ids=["missing", "file", "nothing", "only empty"],
)
def test_a_folder_that_gives_nothing(
    tmp_path: Path, steps: Steps, prepare: Callable[[Path], object], message: str
) -> None:
    prepare(tmp_path / "docs")
    with pytest.raises(CorpusError, match=message):
        build_folder(tmp_path / "docs", tmp_path / "out", steps)
    assert not (tmp_path / "out" / DOCUMENTS).exists()


class Interrupted(Steps):
    """A user who presses Ctrl-C in the middle of a step."""

    def __init__(self, during: str) -> None:
        super().__init__()
        self._during = during

    @contextmanager
    def step(self, name: str, total: int, unit: str = "") -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            if name.startswith(self._during):
                raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize("during", ["extract", "clean", "write"])
def test_an_interrupted_build_leaves_the_old_corpus_whole(
    folder: Path, tmp_path: Path, steps: Steps, during: str
) -> None:
    out = tmp_path / "out"
    build_folder(folder, out, steps)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (folder / "more.txt").write_text("More.")
    with pytest.raises(KeyboardInterrupt):
        build_folder(folder, out, Interrupted(during))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert build_folder(folder, out, steps).manifest["total"]["documents"] == 6
