from pathlib import Path

import pytest
from pdf_files import make_pdf

from capstan.extract.errors import BrokenDocument
from capstan.extract.formats import extract
from capstan.extract.page import Page
from capstan.extract.rules import SUFFIXES, PageRules

AWS = """**Example 1: To create a VPC**

The following ``create-vpc`` example creates a VPC. ::

    aws ec2 create-vpc \\
        --cidr-block 10.0.0.0/16

Output::

    {
        "Vpc": {}
    }

For more information, see `VPCs <https://example.org/vpc>`__ in the *Guide*.

**Example 2: To tag it**

Run this.
"""


def read(tmp_path: Path, name: str, data: str | bytes, **rules: object) -> Page:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return extract(path, SUFFIXES[path.suffix], PageRules.model_validate(rules), path.stem)


def sections(page: Page) -> list[tuple[tuple[str, ...], str]]:
    return [(section.heading, section.text) for section in page.sections]


def test_rst_tasks_are_sections(tmp_path: Path) -> None:
    path = tmp_path / "create-vpc.rst"
    path.write_text(AWS)
    rules = PageRules(title="command", prefix="aws", bold_headings=True, numbered=True)
    page = extract(path, "rst", rules, "ec2/create-vpc")
    assert page.title == "aws ec2 create-vpc: examples"
    first, second = page.sections
    assert first.heading == ("To create a VPC",)
    assert first.text == (
        "The following create-vpc example creates a VPC.\n\n"
        "```\naws ec2 create-vpc \\\n    --cidr-block 10.0.0.0/16\n```\n\nOutput:\n\n"
        '```\n{\n    "Vpc": {}\n}\n```\n\nFor more information, see VPCs in the Guide.'
    )
    assert (second.heading, second.text) == (("To tag it",), "Run this.")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("configure/_description", "aws configure: description"),
        ("configure/get/_examples", "aws configure get: examples"),
        ("cloudformation/_deploy_description", "aws cloudformation deploy: description"),
        ("ec2/wait/vpc-exists", "aws ec2 wait vpc-exists: examples"),
    ],
)
def test_command_titles(tmp_path: Path, name: str, title: str) -> None:
    (tmp_path / "page.rst").write_text("Text.")
    assert extract(tmp_path / "page.rst", "rst", PageRules(title="command", prefix="aws"), name).title == title


def test_rst_with_sphinx_markup_keeps_what_sphinx_would_show(tmp_path: Path) -> None:
    source = """
Queues
======

Call :func:`put <queue.put>` or :class:`~queue.Queue`; see :ref:`there`.

.. versionadded:: 3.2
   The *key* argument.

.. code-block:: python
   :linenos:
   :emphasize-lines: 1

   q.put(1)

.. toctree::
   :maxdepth: 2

   other

.. py:function:: put(item)

   Add an item.

.. include:: /etc/passwd
.. raw:: html

   <script>alert(1)</script>
"""
    page = read(tmp_path, "queues.rst", source)
    assert page.title == "Queues"
    assert sections(page) == [
        (
            (),
            "Call put or queue.Queue; see there.\n\nNew in version 3.2 The key argument.\n\n"
            "```python\nq.put(1)\n```\n\n```\nput(item)\n```\n\nAdd an item.",
        )
    ]


def test_markdown(tmp_path: Path) -> None:
    source = "---\ntitle: From the matter\n---\n# Guide\n\nText with `code`.\n\n## Run\n\n```sh\nmake run\n```\n\n"
    source += "| a | b |\n|---|---|\n| 1 | 2 |\n\n* x\n* y\n"
    page = read(tmp_path, "guide.md", source)
    assert page.title == "Guide"
    assert sections(page) == [
        ((), "Text with code."),
        (("Run",), "```sh\nmake run\n```\n\na | b\n1 | 2\n\n- x\n- y"),
    ]
    assert read(tmp_path, "other.md", "---\ntitle: From the matter\n---\nText.\n").title == "From the matter"
    assert read(tmp_path, "plain.md", "Text.\n").title == "plain"


def test_plain_text(tmp_path: Path) -> None:
    page = read(tmp_path, "notes.txt", "Release notes\n\nOne line\nand its rest.\n\n    make all\n\n- a\n- b\n")
    assert page.title == "Release notes"
    assert sections(page) == [((), "One line and its rest.\n\n```\nmake all\n```\n\n- a\n- b")]


@pytest.mark.parametrize(
    "data",
    ["naïve".encode(), "naïve".encode("utf-8-sig"), "naïve".encode("utf-16"), "naïve".encode("cp1252")],
    ids=["utf-8", "utf-8 with mark", "utf-16", "windows-1252"],
)
def test_encodings(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, "word.txt", data).sections[0].text == "naïve"


def test_declared_encoding(tmp_path: Path) -> None:
    html = "<meta charset='iso-8859-5'><h1>T</h1><p>Привет</p>".encode("iso-8859-5")
    assert read(tmp_path, "page.html", html).sections[0].text == "Привет"


def test_pdf(tmp_path: Path) -> None:
    pages = [["ACME manual", f"Step {n} is to turn the", "big wheel care-", "fully.", str(n)] for n in (1, 2, 3)]
    page = read(tmp_path, "wheel.pdf", make_pdf(pages, "The wheel"))
    assert page.title == "The wheel"
    assert sections(page) == [((f"Page {n}",), f"Step {n} is to turn the big wheel carefully.") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("broken.pdf", b"%PDF-1.4 and no more", "not readable as PDF"),
        ("image.txt", b"\x89PNG\r\n\x1a\n\0\0\0", "binary data"),
        ("page.html", b"PK\x03\x04\0\0", "binary data"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(BrokenDocument, match=reason):
        read(tmp_path, name, data)


def test_a_scan_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BrokenDocument, match="needs OCR"):
        read(tmp_path, "scan.pdf", make_pdf([[]]))
