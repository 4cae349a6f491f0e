"""Packs evidence into a budget of tokens: no text twice, good passages widened by what stands beside them."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from capstan.generator.defuse import as_data, one_line
from capstan.generator.passages import Chunk, Passage

_MIN_TOKENS = 48
"""A passage that would be cut shorter than this is left out."""
_MIN_OVERLAP = 16
"""Characters that the end of a chunk and the start of the next must share to be taken for overlapping windows."""
_TOKENS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[^\S\n]{2,}|[^\x00-\x7f]+|[^A-Za-z\s]|\n")


def tokens(text: str) -> int:
    """Estimate of a text's tokens for a byte-level BPE, on the high side.

    Four letters of a word are a token, two of an abbreviation, and each digit, sign, line end and run of spaces; beyond
    ASCII, each byte. Prose and code have fewer tokens than that, by a quarter; long random strings can have a few more.
    """
    count = 0
    for match in _TOKENS.finditer(text):
        piece = match.group()
        if not piece[0].isascii():
            count += len(piece.encode("utf-8", "replace"))
        elif piece[0].isalpha():
            count += math.ceil(len(piece) / (2 if piece.isupper() else 4))
        else:
            count += 1
    return count


def numbered(number: int, passage: Passage) -> str:
    """A passage as it stands in the prompt, and as it is counted."""
    return f"[{number}] {one_line(passage.place)}\n{as_data(passage.text)}\n\n"


def select(ranked: Sequence[Passage], *, budget: int, most: int, per_document: int) -> list[Passage]:
    """The best passages that fit `budget` tokens; the last may be cut short, a text that stands elsewhere is skipped.

    Passages that lie side by side in a document are joined, under the better one's number.
    """
    chosen: list[Passage] = []
    texts: set[str] = set()
    for passage in ranked:
        text = " ".join(passage.text.split()).lower()
        same_document = sum(p.document_id == passage.document_id for p in chosen)
        if text in texts or same_document >= per_document:
            continue
        room = budget - _cost(chosen) - tokens(numbered(len(chosen) + 1, replace(passage, text="")))
        kept = passage if tokens(as_data(passage.text)) <= room else _cut(passage, room)
        if _cost(_joined([*chosen, kept])) > budget or tokens(kept.text) < min(_MIN_TOKENS, tokens(passage.text)):
            break
        chosen.append(kept)
        texts.add(text)
        if kept is not passage or len(chosen) == most:
            break
    return _joined(chosen)


def widen(passages: Sequence[Passage], beside: Sequence[Sequence[Chunk]], *, reach: int, budget: int) -> list[Passage]:
    """Passages widened by up to `reach` chunks to each side, nearest first, as long as `budget` tokens suffice.

    `beside[i]` are chunks around `passages[i]`. A chunk goes to one passage only; passages that meet are joined.
    """
    widened = list(passages)
    taken = {(p.document_id, chunk.index) for p in widened for chunk in p.chunks}
    for distance in range(1, reach + 1):
        for i, around in enumerate(beside):
            for index in (passages[i].chunks[-1].index + distance, passages[i].chunks[0].index - distance):
                chunk = next((c for c in around if c.index == index), None)
                if chunk is None or (widened[i].document_id, index) in taken or not _adjoins(widened[i], index):
                    continue
                wider = _made_of(widened[i], (*widened[i].chunks, chunk))
                if _cost(_joined([*widened[:i], wider, *widened[i + 1 :]])) <= budget:
                    widened[i] = wider
                    taken.add((wider.document_id, index))
    return _joined(widened)


def _cost(passages: Sequence[Passage]) -> int:
    return sum(tokens(numbered(n, passage)) for n, passage in enumerate(passages, start=1))


def _adjoins(passage: Passage, index: int) -> bool:
    return index in (passage.chunks[0].index - 1, passage.chunks[-1].index + 1)


def _joined(passages: Sequence[Passage]) -> list[Passage]:
    """Passages of which none adjoins another of the same document."""
    result: list[Passage] = []
    for passage in passages:
        merged = passage
        place = len(result)
        for i in range(len(result) - 1, -1, -1):
            other = result[i]
            if other.document_id == merged.document_id and (
                _adjoins(other, merged.chunks[0].index) or _adjoins(other, merged.chunks[-1].index)
            ):
                merged = _made_of(other, (*other.chunks, *merged.chunks))
                del result[i]
                place = i
        result.insert(place, merged)
    return result


def _made_of(passage: Passage, chunks: tuple[Chunk, ...]) -> Passage:
    """The passage with the text of `chunks`; a heading stands where a chunk has another one than the chunk before."""
    ordered = tuple(sorted(chunks, key=lambda chunk: chunk.index))
    text = ordered[0].text
    for before, chunk in pairwise(ordered):
        if chunk.heading != before.heading and chunk.heading and not chunk.text.startswith(chunk.heading[-1]):
            text += f"\n\n{chunk.heading[-1]}"
        text = _append(text, chunk.text)
    return replace(passage, text=text, chunks=ordered)


def _append(text: str, more: str) -> str:
    """Two pieces in a row, without what the end of one and the start of the other share (sliding windows)."""
    for length in range(min(len(text), len(more)), _MIN_OVERLAP - 1, -1):
        if text.endswith(more[:length]):
            return text + more[length:]
    return f"{text}\n\n{more}"


def _cut(passage: Passage, room: int) -> Passage:
    """The passage cut to at most `room` tokens, at a line's or sentence's end if one is not far."""
    low, high = 0, len(passage.text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokens(as_data(passage.text[:middle])) <= room else (low, middle - 1)
    text = passage.text[:low]
    border = max(text.rfind("\n"), text.rfind(". ") + 1)
    text = text[:border] if border > low // 2 else text
    chunks = tuple(replace(chunk, text=text) for chunk in passage.chunks if chunk.id == passage.chunk_id)
    return replace(passage, text=text, chunks=chunks)
