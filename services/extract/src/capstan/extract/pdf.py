"""PDF through pypdf: one section a page, so that a citation can name it."""

import logging
from collections import Counter
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from capstan.extract import text as normal
from capstan.extract.errors import BrokenDocument
from capstan.extract.page import Page, PageBuilder

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it reports each oddity of a file; a broken one raises


def extract_pdf(path: Path, name: str) -> Page:
    """The text layer of each page. Raises `BrokenDocument` if it is encrypted, damaged or a mere scan."""
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise BrokenDocument("needs a password")
        pages = [normal.lines(page.extract_text()).split("\n") for page in reader.pages]
        title = normal.prose(str(reader.metadata.title)) if reader.metadata and reader.metadata.title else name
    except DependencyError:  # pypdf knows RC4; AES is another package's
        raise BrokenDocument("is encrypted; save it without protection") from None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise BrokenDocument(f"not readable as PDF ({type(error).__name__})") from None
    if not any("".join(page) for page in pages):
        raise BrokenDocument("holds no text (a scan needs OCR first)")
    margins = _running_lines(pages)
    builder = PageBuilder()
    for number, page in enumerate(pages, 1):
        if len(pages) > 1:
            builder.heading(1, f"Page {number}")
        for paragraph in _paragraphs([line for line in page if line not in margins and not line.isdigit()]):
            builder.paragraph(paragraph)
    return Page(title, builder.sections())


def _running_lines(pages: list[list[str]]) -> set[str]:
    """First and last lines that most pages share: running heads and feet."""
    edges = Counter(line for page in pages for line in {page[0], page[-1]})
    return {line for line, count in edges.items() if len(pages) > 2 and count > len(pages) / 2}


def _paragraphs(lines: list[str]) -> list[str]:
    """Lines joined; a short line that ends a sentence ends its paragraph."""
    width = max(map(len, lines), default=0)
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        paragraphs[-1].append(line)
        if len(line) < 0.8 * width and line.endswith((".", ":", "!", "?")):
            paragraphs.append([])
    return [_joined(paragraph) for paragraph in paragraphs if paragraph]


def _joined(lines: list[str]) -> str:
    text = ""
    for line in lines:
        hyphenated = text.endswith("-") and line[:1].islower()
        text = text[:-1] + line if hyphenated else f"{text} {line}".strip()
    return text
