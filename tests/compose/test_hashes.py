"""Packages of images are pinned by hash (compose/images/hashes.py)."""

import base64
import hashlib
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from compose_stack import ROOT

HASHES: Any = runpy.run_path(str(ROOT / "compose/images/hashes.py"))
IMAGES: Any = runpy.run_path(str(ROOT / "compose/images.py"))["IMAGES"]


def pins_of_images() -> set[str]:
    files = {ROOT / file for image in IMAGES.values() for file in image.requirements}
    return {pin for file in files for pin in HASHES["pins"](file)}


def test_every_package_of_an_image_has_a_hash_and_there_is_no_other() -> None:
    known, pinned = {*HASHES["read"]()}, pins_of_images()
    advice = "make wheelhouse, then python3 compose/images/hashes.py write, and commit"
    assert {pin for pin in pinned - known if not pin.startswith("torch==")} == set(), advice
    assert known - pinned == set(), advice


def test_a_requirement_file_is_split_by_what_has_a_hash(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text(
        "# why\nKnown_One==1.0\ntorch==2.13.0 # another\n\nown==3 --hash=sha256:cc\nnew==4\n"
    )
    HASHES["split"](tmp_path / "r.txt", tmp_path / "out", {"known-one==1.0": "known-one==1.0 --hash=sha256:aa"})
    hashed, plain = ((tmp_path / f"out/{name}.txt").read_text() for name in ("hashed", "plain"))
    assert hashed == "known-one==1.0 --hash=sha256:aa\nown==3 --hash=sha256:cc\n"
    assert plain == "torch==2.13.0\nnew==4\n"


def test_another_file_of_the_same_version_is_not_installed(tmp_path: Path) -> None:
    house = tmp_path / "house/image"
    wheel(house, "good")
    (tmp_path / "r.txt").write_text("annotated-doc==9.9.9\n")
    line = f"annotated-doc==9.9.9 --hash=sha256:{hashlib.sha256(next(house.iterdir()).read_bytes()).hexdigest()}"
    HASHES["split"](tmp_path / "r.txt", tmp_path / "out", {"annotated-doc==9.9.9": line})
    assert install(tmp_path).returncode == 0
    wheel(house, "bad")
    refused = install(tmp_path)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


def install(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-cache-dir", "--upgrade"]
    command += ["--find-links", str(directory / "house/image"), "--target", str(directory / "site")]
    return subprocess.run([*command, "-r", str(directory / "out/hashed.txt")], capture_output=True, text=True)


def wheel(house: Path, text: str) -> None:
    """annotated-doc 9.9.9, which holds a text."""
    house.mkdir(parents=True, exist_ok=True)
    files = {
        "annotated_doc.py": f"TEXT = {text!r}\n",
        "annotated_doc-9.9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: annotated-doc\nVersion: 9.9.9\n",
        "annotated_doc-9.9.9.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files["annotated_doc-9.9.9.dist-info/RECORD"] = "\n".join([*lines, "annotated_doc-9.9.9.dist-info/RECORD,,"]) + "\n"
    with zipfile.ZipFile(house / "annotated_doc-9.9.9-py3-none-any.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
