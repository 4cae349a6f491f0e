"""Documents to chunks, by structure.

A chunk never crosses a section and carries its heading path. Fenced code stays whole while it fits;
what is longer than the limit is cut at the best border inside it: paragraph, line, sentence, word.
Small neighbouring sections under one heading are joined, so that a page of one-line sections does not
become a page of crumbs. Chunks do not overlap: the order of chunks is their order in the document,
and nothing is lost or repeated but white space around the cuts.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

CountTokens = Callable[[Sequence[str]], list[int]]
Chunker = Callable[[Sequence["Section"]], list["Chunk"]]

_FENCE = re.compile(r"^(```|~~~).*?^\1[^\S\n]*(?:\n+|\Z)", re.MULTILINE | re.DOTALL)
_PARAGRAPH = re.compile(r".*?(?:\n[^\S\n]*\n\s*|\Z)", re.DOTALL)
_CUTS = (
    re.compile(r"[^\n]*(?:\n+|\Z)"),  # lines
    re.compile(r".*?(?:(?<=[.!?;:])\s+|\Z)", re.DOTALL),  # sentences
    re.compile(r"\S*(?:\s+|\Z)"),  # words
)


@dataclass(frozen=True, slots=True)
class Section:
    """`heading` is the path from the document's top; the title of the document is not part of it."""

    heading: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """`parts` are pieces of section text, each with the headings that follow `heading` (none for most)."""

    heading: tuple[str, ...]
    parts: tuple[tuple[tuple[str, ...], str], ...]
    tokens: int

    @property
    def text(self) -> str:
        """What a reader sees: the pieces, a joined section under its own heading line."""
        return "\n\n".join(f"{_line(tail)}\n{text}" if tail else text for tail, text in self.parts)


def chunk_sections(sections: Sequence[Section], count: CountTokens, *, limit: int, small: int) -> list[Chunk]:
    """Cut `sections` into chunks of at most `limit` tokens; those below `small` join their neighbours.

    `limit` and `small` are in tokens as `count` counts them (special tokens and headings left out).
    """
    chunks: list[Chunk] = []
    for section, pieces in zip(sections, _counted(sections, count, limit), strict=True):
        for text, tokens in _pack(pieces, count, limit):
            chunk = Chunk(section.heading, (((), text),), tokens)
            joined = _join(chunks[-1], chunk, count, limit, small) if chunks else None
            if joined is None:
                chunks.append(chunk)
            else:
                chunks[-1] = joined
    return chunks


def _counted(sections: Sequence[Section], count: CountTokens, limit: int) -> list[list[tuple[str, int]]]:
    """Each section's text with its token count; long ones are cut into blocks first, so each is counted once."""
    blocks = [_blocks(s.text) if len(s.text) > 3 * limit else [s.text] for s in sections]
    counts = iter(count([block for several in blocks for block in several]))
    return [[(block, next(counts)) for block in several] for several in blocks]


def _join(left: Chunk, right: Chunk, count: CountTokens, limit: int, small: int) -> Chunk | None:
    """Both in one chunk, if one of them is small, they are siblings and it fits."""
    if min(left.tokens, right.tokens) >= small or left.tokens + right.tokens > limit:
        return None
    parent = left.heading if left.parts[0][0] else left.heading[:-1]
    if left.heading == right.heading and not left.parts[0][0]:
        parent = left.heading
    elif not right.heading or right.heading[:-1] != parent or (not left.heading and not left.parts[0][0]):
        return None
    depth = len(parent)
    moved = tuple((left.heading[depth:] + tail, text) for tail, text in left.parts)
    parts = (*moved, (right.heading[depth:], right.parts[0][1]))
    names = [tail for tail, _ in (parts if len(left.heading) > depth else parts[-1:]) if tail]
    tokens = left.tokens + right.tokens + sum(count([_line(tail) for tail in names]))
    return Chunk(parent, parts, tokens) if tokens <= limit else None


def _line(tail: tuple[str, ...]) -> str:
    return " > ".join(tail)


def _pack(blocks: list[tuple[str, int]], count: CountTokens, limit: int) -> Iterator[tuple[str, int]]:
    """A section's blocks as pieces of about equal size, each within `limit`, with their token counts."""
    whole = sum(tokens for _, tokens in blocks)
    if whole <= limit:
        yield from _finish([block for block, _ in blocks], whole)
        return
    target = whole / math.ceil(whole / limit)
    held: list[str] = []
    size = 0
    for block, total in blocks:
        for piece, tokens in [(block, total)] if total <= limit else cut(block, count, limit):
            if held and (size + tokens > limit or size + tokens / 2 > target):
                yield from _finish(held, size)
                held, size = [], 0
            held.append(piece)
            size += tokens
    yield from _finish(held, size)


def _finish(pieces: list[str], size: int) -> Iterator[tuple[str, int]]:
    text = "".join(pieces).strip("\n").rstrip()
    if text:
        yield text, size


def _blocks(text: str) -> list[str]:
    """Fenced code and paragraphs, white space kept: joined again they are `text`."""
    blocks: list[str] = []
    position = 0
    for fence in _FENCE.finditer(text):
        blocks += _PARAGRAPH.findall(text[position : fence.start()])
        blocks.append(fence.group())
        position = fence.end()
    blocks += _PARAGRAPH.findall(text[position:])
    return [block for block in blocks if block]


def cut(text: str, count: CountTokens, limit: int, level: int = 0) -> list[tuple[str, int]]:
    """Cut one block that does not fit: at lines, sentences, words, and at last in the middle of a word.

    The pieces with their token counts; joined again they are `text`. `level` is the first border to try.
    """
    if level == len(_CUTS):
        if len(text) < 2:
            return [(text, limit)]
        parts = [text[: len(text) // 2], text[len(text) // 2 :]]
    else:
        parts = [part for part in _CUTS[level].findall(text) if part]
    pieces: list[tuple[str, int]] = []
    for part, tokens in zip(parts, count(parts), strict=True):
        pieces += [(part, tokens)] if tokens <= limit else cut(part, count, limit, min(level + 1, len(_CUTS)))
    return pieces
