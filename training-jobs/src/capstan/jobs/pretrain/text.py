"""Documents of the corpus job as the text that a model reads, and the words that filters look at."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def as_text(record: Mapping[str, Any]) -> str:
    """Markdown of a document: its title, and each section under the headings that are new with it."""
    parts: list[str] = [f"# {record['title']}"]
    shown: list[str] = []
    for section in record["sections"]:
        path = section["heading"]
        same = next(
            (n for n, (a, b) in enumerate(zip(shown, path, strict=False)) if a != b), min(len(shown), len(path))
        )
        parts += [f"{'#' * (level + 2)} {path[level]}" for level in range(same, len(path))]
        parts.append(section["text"])
        shown = path
    return "\n\n".join(part for part in parts if part) + "\n"


def words(text: str) -> list[str]:
    """Lower-case runs of letters, digits and underscores."""
    return _WORD.findall(text.lower())


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())


def ngram_hashes(text: str, n: int) -> NDArray[np.uint64]:
    """A 64-bit hash of every run of `n` words; shape (runs,)."""
    hashes = np.fromiter((_word_hash(word) for word in words(text)), np.uint64)
    if len(hashes) < n:
        return np.empty(0, np.uint64)
    total = np.zeros(len(hashes) - n + 1, np.uint64)
    for offset in range(n):
        total = total * _FACTOR + hashes[offset : len(hashes) - n + 1 + offset]
    return total


def seen_in(texts: Iterable[str], wanted: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Those of `wanted`, sorted and unique, that occur among the n-grams of `texts`."""
    hit = np.zeros(len(wanted), bool)
    for text in texts:
        hashes = ngram_hashes(text, n)
        places = np.searchsorted(wanted, hashes).clip(max=max(len(wanted) - 1, 0))
        if len(wanted):
            hit[places[wanted[places] == hashes]] = True
    return wanted[hit]
