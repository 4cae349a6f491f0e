"""Documents to chunks of a fixed size, blind to structure: what structure-aware chunking is compared with.

The windows run over the document as it reads from top to bottom, headings as lines of their own. Two
neighbours share up to `overlap` tokens. A window's text is an exact slice of that running text, cut
between words; only a word that is longer than a whole window is cut in its middle.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from capstan.retriever.chunking import Chunk, CountTokens, Section, cut

_WORD = re.compile(r"\S+")
_INSIDE_WORDS = 3  # the level of `cut` that has no better border left


def chunk_windows(sections: Sequence[Section], count: CountTokens, *, size: int, overlap: int) -> list[Chunk]:
    """Cut `sections` into windows of at most `size` tokens; `overlap` < `size`, in tokens as well.

    A chunk's heading is that of the section in which it starts.
    """
    text, starts = running_text(sections)
    chunks = []
    for start, end, tokens in windows(text, count, size=size, overlap=overlap):
        heading = sections[bisect_right(starts, start) - 1].heading
        chunks.append(Chunk(heading, (((), text[start:end]),), tokens))
    return chunks


def running_text(sections: Sequence[Section]) -> tuple[str, list[int]]:
    """The document as it reads, and where in it each section starts, its heading line included."""
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    before: tuple[str, ...] = ()
    for section in sections:
        starts.append(length)
        text = "\n".join([*_new(before, section.heading), section.text]) + "\n\n"
        pieces.append(text)
        length += len(text)
        before = section.heading
    return "".join(pieces), starts


def _new(before: tuple[str, ...], heading: tuple[str, ...]) -> tuple[str, ...]:
    """The headings that a reader meets between a section and the one before it."""
    shared = 0
    while shared < min(len(before), len(heading)) and before[shared] == heading[shared]:
        shared += 1
    return heading[shared:]


def windows(text: str, count: CountTokens, *, size: int, overlap: int) -> list[tuple[int, int, int]]:
    """Start, end and tokens of each window over `text`."""
    words = _words(text, count, size)
    before = [0, *accumulate(tokens for _, _, tokens in words)]  # tokens before each word
    found: list[tuple[int, int, int]] = []
    first = end = 0
    while end < len(words):
        end = bisect_right(before, before[first] + size) - 1
        found.append((words[first][0], words[end - 1][1], before[end] - before[first]))
        first += 1
        while before[end] - before[first] > overlap or (end < len(words) and before[end + 1] - before[first] > size):
            first += 1
    return found


def _words(text: str, count: CountTokens, size: int) -> list[tuple[int, int, int]]:
    """Start, end and tokens of each word, of which none has more than `size` tokens."""
    matches = list(_WORD.finditer(text))
    words: list[tuple[int, int, int]] = []
    for match, tokens in zip(matches, count([match.group() for match in matches]), strict=True):
        start = match.start()
        pieces = [(match.group(), tokens)] if tokens <= size else cut(match.group(), count, size, _INSIDE_WORDS)
        for piece, piece_tokens in pieces:
            words.append((start, start + len(piece), piece_tokens))
            start += len(piece)
    return words
