"""Manual pages, tested here because this job fetches their formatter."""

import gzip
from pathlib import Path

import pytest

from capstan.extract.errors import BrokenDocument
from capstan.extract.formats import extract
from capstan.extract.man import alias_of
from capstan.extract.page import Page
from capstan.extract.rules import PageRules

MAN = r""".\" a comment
.TH OPEN 2 2023-01-01 "Linux"
.SH NAME
open, creat \- open and possibly create a file
.SH SYNOPSIS
.nf
.B #include <fcntl.h>
.PP
.BI "int open(const char *" pathname ", int " flags );
.fi
.SH DESCRIPTION
The
.BR open ()
call opens a file.
.IP \(bu 3
A point.
.TP
.B O_APPEND
Append mode.
.SH EXAMPLES
.EX
int fd;

if (fd < 0)
    exit(1);
.EE
"""
RULES = PageRules(content=".manual-text", title="man", join_code=True)


def read(path: Path, data: bytes, mandoc: Path) -> Page:
    path.write_bytes(data)
    return extract(path, "man", RULES, path.name.removesuffix(".gz"), mandoc)


def test_manual_page(tmp_path: Path, mandoc: Path) -> None:
    page = read(tmp_path / "open.2.gz", gzip.compress(MAN.encode()), mandoc)
    assert page.title == "open(2): open and possibly create a file"
    assert [(section.heading, section.text) for section in page.sections] == [
        (("NAME",), "open, creat - open and possibly create a file"),
        (("SYNOPSIS",), "```\n#include <fcntl.h>\n\nint open(const char *pathname, int flags);\n```"),
        (("DESCRIPTION",), "The open() call opens a file.\n\n- A point.\n- O_APPEND: Append mode."),
        (("EXAMPLES",), "```\nint fd;\n\nif (fd < 0)\n    exit(1);\n```"),
    ]


def test_manual_page_that_is_damaged(tmp_path: Path, mandoc: Path) -> None:
    with pytest.raises(BrokenDocument, match="compressed"):
        read(tmp_path / "open.2.gz", gzip.compress(MAN.encode())[:40], mandoc)


def test_manual_page_that_only_points_to_another(tmp_path: Path) -> None:
    alias, page = tmp_path / "creat.2.gz", tmp_path / "open.2"
    alias.write_bytes(gzip.compress(b'.\\" moved\n.so man2/open.2\n'))
    page.write_text(MAN)
    assert alias_of(alias) == "man2/open.2"
    assert alias_of(page) is None
