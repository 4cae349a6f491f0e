"""Takes a passage apart into pieces that can be read on their own: sentences, items, lists, code with its lead-in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from capstan.generator.passages import Passage
from capstan.generator.text import end_of_sentence, words

_MOST_CODE_LINES = 20
_LONG = 420
"""Characters up to which a list or a sentence with the one before it is one piece."""
_FENCE = re.compile(r"```[\w+-]*\n.*?\n```", re.DOTALL)
_ITEM = re.compile(r"^(?:[-*•]|\d{1,3}[.)])\s+")
_SAYS_NOTHING = re.compile(
    r"^(?:for (?:more|further|additional) information|see also\b|see section|(?:example |sample )?outputs?\s*:?$"
    r"|command\s*:?$|\(?contributed by|copyright)",
    re.IGNORECASE,
)
_LEANS = re.compile(
    r"^(?:this|that|these|those|it|its|they|he|such|here|otherwise|however|therefore|thus|then|instead|also|but|and|so|"
    r"in (?:this|that|these|such) cases?|in (?:addition|contrast|other words)|as a result|for (?:example|instance)|"
    r"the (?:former|latter|same|other))\b",
    re.IGNORECASE,
)
"""Sentences that begin like this are understood only with the one before."""
_NAME_LINE = re.compile(r"^\S[^.]{0,60}? (?:-|–|—) \w.{8,}$")
"""`git-stage - Add file contents to the staging area`: what a manual page is about."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of passage `number`; `order` is its place in the passage.

    `code` is a block with its fences, "" without one; `text` is then the line that leads to it, or "".
    """

    number: int
    order: int
    text: str
    code: str = ""

    @property
    def is_item(self) -> bool:
        """Whether it stands on a line of its own: an item, or a list."""
        return _ITEM.match(self.text) is not None or "\n" in self.text


def pieces(number: int, passage: Passage) -> list[Piece]:
    """The passage taken apart. Headings, long blocks of code and what says nothing are left out."""
    found: list[Piece] = []
    position = 0
    for block in [*_FENCE.finditer(passage.text), None]:
        end = block.start() if block else len(passage.text)
        lines = [line.strip() for line in passage.text[position:end].split("\n") if line.strip()]
        lead = lines.pop() if block and lines and lines[-1].endswith(":") else ""
        found += [Piece(number, len(found) + i, text) for i, text in enumerate(_prose(lines))]
        if block and block.group().count("\n") <= _MOST_CODE_LINES and not _SAYS_NOTHING.match(lead):
            found.append(Piece(number, len(found), lead, block.group()))
        position = block.end() if block else end
    return found


def _prose(lines: list[str]) -> Iterator[str]:
    """Sentences and items of the lines; a line that announces a list comes with it, or not at all."""
    i = 0
    while i < len(lines):
        line = lines[i]
        i += 1
        if _SAYS_NOTHING.match(line):
            continue
        if line.endswith(":"):
            items = []
            while i < len(lines) and _ITEM.match(lines[i]):
                items.append(lines[i])
                i += 1
            whole = "\n".join([line, *items])
            yield from [whole] if items and len(whole) <= 2 * _LONG else [item for item in items if _says(item)]
        elif (_ITEM.match(line) and len(line) <= _LONG) or _NAME_LINE.match(line):
            yield from [line] if _says(line) else []
        else:
            yield from _sentences(line)


def _sentences(line: str) -> Iterator[str]:
    """The complete sentences of a line; one that leans on the sentence before comes with it."""
    before = ""
    while line.strip():
        end = end_of_sentence(line) or len(line)
        sentence, line = line[:end].strip(), line[end:]
        if not _says(sentence) or sentence[-1] not in ".!?)”\"'":
            before = ""
            continue
        if before and _LEANS.match(sentence) and len(before) + len(sentence) < _LONG:
            yield f"{before} {sentence}"
        elif not _LEANS.match(sentence):
            yield sentence
        before = sentence


def _says(text: str) -> bool:
    return len(words(text)) >= 2 and not _SAYS_NOTHING.match(_ITEM.sub("", text))
