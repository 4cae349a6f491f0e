import json
from collections import namedtuple
from pathlib import Path

import pytest

from capstan.common.checkpoint import NOTE, prepare
from capstan.common.models import ModelError
from capstan.worker.prepare import prepare_adapters


class Converter:
    """Stands in for the half minute of real conversion, which the end-to-end test runs."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, gguf: Path, output: Path) -> None:
        self.calls += 1
        (output / "config.json").write_text("{}")


@pytest.fixture
def gguf(tmp_path):
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "tiny.Q4_1.gguf").write_bytes(b"weights")
    return directory


def test_a_checkpoint_is_served_where_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    convert = Converter()

    assert prepare(f"file:{tmp_path}", tmp_path / "cache", convert=convert) == tmp_path
    assert convert.calls == 0


def test_a_gguf_file_is_converted_once(gguf, tmp_path):
    convert, said = Converter(), []

    first = prepare(f"file:{gguf}", tmp_path / "cache", convert=convert, say=said.append)
    second = prepare(f"file:{gguf}", tmp_path / "cache", convert=convert, say=said.append)

    assert first == second
    assert (first / "config.json").is_file()
    assert convert.calls == 1
    assert [line.split()[0] for line in said] == ["converting", "model"]


def test_the_model_says_that_it_was_quantized(gguf, tmp_path):
    note = json.loads((prepare(f"file:{gguf}", tmp_path, convert=Converter()) / NOTE).read_text())

    assert note["source"] == f"file:{gguf}"
    assert "tiny.Q4_1.gguf" in note["note"]


def test_other_weights_are_another_checkpoint(gguf, tmp_path):
    first = prepare(f"file:{gguf}", tmp_path, convert=Converter())
    (gguf / "tiny.Q4_1.gguf").write_bytes(b"other weights")

    assert prepare(f"file:{gguf}", tmp_path, convert=Converter()) != first


def test_a_conversion_that_fails_leaves_nothing_behind(gguf, tmp_path):
    def fail(gguf: Path, output: Path) -> None:
        (output / "config.json").write_text("{}")
        raise ModelError("tiny.Q4_1.gguf cannot be converted")

    with pytest.raises(ModelError):
        prepare(f"file:{gguf}", tmp_path / "cache", convert=fail)

    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_the_faster_of_two_processes_wins(gguf, tmp_path):
    def convert(gguf: Path, output: Path) -> None:
        Converter()(gguf, output)
        if not list((tmp_path / "models").glob("tiny*")):
            prepare(f"file:{gguf.parent}", tmp_path, convert=convert_fast)

    def convert_fast(gguf: Path, output: Path) -> None:
        (output / "config.json").write_text('{"first": true}')

    path = prepare(f"file:{gguf}", tmp_path, convert=convert)

    assert json.loads((path / "config.json").read_text()) == {"first": True}


def test_too_little_disk_is_said_before_the_work(gguf, tmp_path, monkeypatch):
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(free=3))
    convert = Converter()

    with pytest.raises(ModelError, match="CAPSTAN_CACHE_DIR"):
        prepare(f"file:{gguf}", tmp_path, convert=convert)
    assert convert.calls == 0


@pytest.mark.parametrize(
    ("files", "message"), [([], "neither config.json nor"), (["a.gguf", "b.gguf"], "2 .gguf files")]
)
def test_a_directory_without_one_model_is_refused(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_bytes(b"")

    with pytest.raises(ModelError, match=message):
        prepare(f"file:{tmp_path}", tmp_path / "cache", convert=Converter())


def test_an_adapter_must_be_one(tmp_path):
    with pytest.raises(ModelError, match=r"adapter a: .* no adapter_config.json"):
        prepare_adapters({"a": f"file:{tmp_path}"}, tmp_path)

    (tmp_path / "adapter_config.json").write_text("{}")
    assert prepare_adapters({"a": f"file:{tmp_path}"}, tmp_path) == {"a": tmp_path}
