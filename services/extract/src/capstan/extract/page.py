"""What an extractor makes of one file: a title and sections of structured plain text."""

from dataclasses import dataclass, field

from capstan.extract import text as normal


@dataclass(frozen=True, slots=True)
class Section:
    """`heading` is the path of headings from the top of the page, `text` paragraphs with blank lines between."""

    heading: tuple[str, ...]
    text: str


@dataclass(slots=True)
class Page:
    """One extracted file. `link_share` is the part of its visible text that lies inside links, 0 to 1."""

    title: str
    sections: list[Section]
    link_share: float = 0.0

    @property
    def characters(self) -> int:
        """Characters of text in all sections, headings apart."""
        return sum(len(section.text) for section in self.sections)


@dataclass(slots=True)
class _Open:
    heading: tuple[str, ...]
    blocks: list[tuple[str, str]] = field(default_factory=list)


class PageBuilder:
    """Collects blocks in reading order and joins them to sections.

    Blocks are paragraphs, list items, table rows and code; items and rows that follow each other stay
    on consecutive lines, everything else is set apart by a blank line.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, str]] = []
        self._sections = [_Open(())]

    def heading(self, level: int, text: str) -> None:
        """Start a section under the nearest open heading of a smaller level.

        A heading as long as a paragraph is shortened, and then also the section's first paragraph.
        """
        text = normal.prose(text)
        if not text:
            return
        self.close(level)
        self._stack.append((level, normal.shortened(text)))
        self._sections.append(_Open(self._path()))
        if normal.shortened(text) != text:
            self.paragraph(text)

    def close(self, level: int) -> None:
        """End all sections of this level and deeper: what follows belongs to their parent."""
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        if self._sections[-1].heading != self._path():
            self._sections.append(_Open(self._path()))

    def paragraph(self, text: str) -> None:
        """Add running text; its line breaks are kept."""
        self._add("paragraph", normal.lines(text))

    def item(self, text: str, depth: int = 0, marker: str = "-") -> None:
        """Add a list item, two spaces to the right for each level of nesting."""
        text = normal.prose(text)
        self._add("item", text and f"{'  ' * depth}{marker} {text}")

    def row(self, cells: list[str]) -> None:
        """Add a table row: `a | b`."""
        texts = [normal.prose(cell) for cell in cells]
        self._add("row", " | ".join(texts) if any(texts) else "")

    def code(self, text: str, language: str = "", *, join: bool = False) -> None:
        """Add code in a fence; with `join`, code right after code goes into the same fence."""
        text = normal.code(text)
        blocks = self._sections[-1].blocks
        kind = f"code {language}"
        if text and join and blocks and blocks[-1][0] == kind:
            text = f"{blocks.pop()[1]}\n\n{text}"
        self._add(kind, text)

    def sections(self) -> list[Section]:
        """The sections that hold text, neighbours with the same heading as one."""
        done: list[Section] = []
        for part in self._sections:
            text = _joined(part.blocks)
            if not text:
                continue
            if done and done[-1].heading == part.heading:
                done[-1] = Section(part.heading, f"{done[-1].text}\n\n{text}")
            else:
                done.append(Section(part.heading, text))
        return done

    def _path(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._stack)

    def _add(self, kind: str, text: str) -> None:
        if text:
            self._sections[-1].blocks.append((kind, text))


def _joined(blocks: list[tuple[str, str]]) -> str:
    parts: list[str] = []
    previous = ""
    for kind, text in blocks:
        if parts:
            parts.append("\n" if kind == previous and kind in ("item", "row") else "\n\n")
        if kind.startswith("code "):
            text = normal.fence(text, kind.removeprefix("code "))
        parts.append(text)
        previous = kind
    return "".join(parts)
