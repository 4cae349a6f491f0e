"""The repository's documents: their blocks of code, code in their text, links and headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted({path for glob in ("*", "docs/**/*", "[!.]*/*", "[!.]*/*/*") for path in ROOT.glob(f"{glob}.md")})

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Code:
    """A fenced block, or code in the text; that has no language."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        """Where it is, and how it begins: the name of its test."""
        begins = next((line for line in self.text.splitlines() if line and not line.startswith("#")), "")
        return f"{self.document.relative_to(ROOT)}:{self.line} {begins.partition('#')[0].strip()[:60]}"


def blocks(document: Path) -> Iterator[Code]:
    """The fenced blocks."""
    text = document.read_text()
    for found in _BLOCK.finditer(text):
        yield Code(document, text.count("\n", 0, found.start()) + 1, found["language"], found["text"])


def inline(document: Path) -> Iterator[Code]:
    """Code in the text."""
    text = prose(document)
    for found in _INLINE.finditer(text):
        yield Code(document, text.count("\n", 0, found.start()) + 1, "", " ".join(found[1].split()))


def prose(document: Path) -> str:
    """The text with its blocks emptied, line for line."""
    return _BLOCK.sub(lambda found: "\n" * found[0].count("\n"), document.read_text())


def links(document: Path) -> list[str]:
    """The targets of its links, code left out."""
    return _LINK.findall(_INLINE.sub("", prose(document)))


def anchors(document: Path) -> set[str]:
    """What can stand behind `#` in a link to it, as GitHub makes it of headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(document)):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(next(name for n in range(100) if (name := f"{slug}-{n}" if n else slug) not in found))
    return found
