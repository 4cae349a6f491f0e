"""Long passages, for timing a reranker."""

import json
from pathlib import Path

CHARS_PER_TOKEN = 8
"""More than any text here has, so that what is taken can be cut to an exact number of tokens."""


def passages(documents: Path, count: int, tokens: int) -> list[str]:
    """`count` beginnings of different documents' sections, each longer than `tokens` tokens."""
    found: list[str] = []
    size = CHARS_PER_TOKEN * tokens
    with documents.open() as file:
        for line in file:
            sections = json.loads(line)["sections"]
            found += [s["text"][:size] for s in sections if len(s["text"]) >= size][:1]
            if len(found) == count:
                break
    return found
