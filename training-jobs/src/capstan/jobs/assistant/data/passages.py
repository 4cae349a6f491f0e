"""Passages of documents, and a search for those that a question might bring up (BM25 of SQLite's FTS5)."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from capstan.jobs.assistant.data.drafts import Document
from capstan.jobs.assistant.data.prompt import Passage, place_of, plain
from capstan.jobs.evaluate.verifier import content_words

LONGEST = 700
"""Characters of a passage."""
_SHORTEST = 60
_BORDER = re.compile(r"\n\n|\n|(?<=[.!?])\s")
_FIND = """
SELECT document, place, text FROM passage WHERE passage MATCH ? ORDER BY bm25(passage, 0, 2, 1), rowid LIMIT ?
"""
_OUTPUT = re.compile(r"\n\s*(?:Output|Example output)\b.*", re.DOTALL)


def passages(document: Document) -> Iterator[Passage]:
    """Sections of a document cut into passages; what is not plain text is left out."""
    for section in document["sections"]:
        place = place_of(document["title"], section["heading"])
        text = section["text"]
        if document["source"] == "awscli":  # a command and what it does; the output says nothing to a question
            text = _OUTPUT.sub("", text)
        if plain(place):
            for piece in pieces(text):
                if len(piece) >= _SHORTEST and plain(piece):
                    yield Passage(document["id"], place, piece)


def pieces(text: str, longest: int = LONGEST) -> Iterator[str]:
    """A text cut at the last paragraph, line or sentence that fits; in one piece there is no open code fence."""
    while text := text.strip():
        piece = cut(text, longest)
        yield piece
        text = text[len(piece) :]


def cut(text: str, longest: int) -> str:
    """The beginning of a text, at most `longest` characters, ending at a border and not in code if one is near."""
    if len(text) <= longest:
        return text
    ends = [m.start() for m in _BORDER.finditer(text, longest // 3, longest) if not text.count("```", 0, m.start()) % 2]
    return text[: ends[-1] if ends else longest].rstrip()


def windows(text: str, longest: int) -> Iterator[str]:
    """A text cut from its beginning, and from the beginning of each of its lines that is not in code."""
    starts = (0, *(match.end() for match in re.finditer(r"\n+", text)))
    return (cut(text[start:], longest) for start in starts if not text.count("```", 0, start) % 2)


class Search:
    """Finds passages by the words of a question."""

    def __init__(self, found: Iterable[Passage]) -> None:
        self._database = sqlite3.connect(":memory:")
        self._database.execute(
            "CREATE VIRTUAL TABLE passage USING fts5(document UNINDEXED, place, text, tokenize='porter')"
        )
        rows = ((p.document, p.place, p.text) for p in found)
        self._database.executemany("INSERT INTO passage VALUES (?, ?, ?)", rows)

    def __call__(self, question: str, limit: int) -> Sequence[Passage]:
        """The best passages for a question, best first."""
        words = dict.fromkeys(re.findall(r"[A-Za-z0-9_]{2,}", question.lower()))
        wanted = [word for word in words if content_words(word)]
        query = " OR ".join(f'"{word}"' for word in wanted)
        return [Passage(*row) for row in self._database.execute(_FIND, (query, limit))] if query else []
