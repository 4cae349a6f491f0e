"""Pairs as token ids, in batches of one length.

A pair is `[CLS] query [SEP]` and `[CLS] passage [SEP]`, the passage in segment 1, each with positions from 0. A batch
holds some queries, each with its positive first and then its negatives, so that a row of scores is one softmax.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capstan.jobs.reranker.errors import RerankerError

Ids = npt.NDArray[np.int64]
QUERY_TOKENS = 48
_POOL = 32  # batches that are sorted by length together


@dataclass(frozen=True, slots=True)
class Group:
    """One query with its passages, the positive first; token ids without special tokens."""

    query: list[int]
    passages: list[list[int]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of shape (queries * passages, tokens); `passages` of each query follow each other.

    `places` are positions, `words` are the tokens that are neither special nor padding.
    """

    ids: Ids
    segments: Ids
    places: Ids
    mask: Ids
    words: npt.NDArray[np.bool_]
    passages: int


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """What `mine` wrote. Raises `RerankerError`."""
    if not path.is_file():
        raise RerankerError(f"{path} is missing; run mine first")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tokenize(pairs: Sequence[dict[str, Any]], tokenizer: Any, *, negatives: int, longest: int) -> list[Group]:
    """Token ids of pairs with their first `negatives` negatives. Raises `RerankerError` if one has fewer."""
    groups = []
    for pair in pairs:
        if len(pair["negatives"]) < negatives:
            raise RerankerError(
                f"a pair has {len(pair['negatives'])} negatives, training wants {negatives}: mine again"
            )
        texts = [pair["query"], pair["passage"], *(n["passage"] for n in pair["negatives"][:negatives])]
        query, *passages = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        groups.append(Group(query[:QUERY_TOKENS], [ids[:longest] for ids in passages]))
    return groups


def join(query: Sequence[int], passage: Sequence[int], cls: int, sep: int, limit: int) -> tuple[list[int], int]:
    """Ids of a pair of at most `limit` tokens, and where segment 1 begins; the passage is cut."""
    asked = [cls, *query[:QUERY_TOKENS], sep]
    return [*asked, cls, *passage[: max(1, limit - len(asked) - 2)], sep], len(asked)


def collate(groups: Sequence[Group], cls: int, sep: int, limit: int) -> Batch:
    """A padded batch whose pairs have at most `limit` tokens."""
    joined = [join(group.query, passage, cls, sep, limit) for group in groups for passage in group.passages]
    shape = len(joined), max(len(ids) for ids, _ in joined)
    ids, segments, places, mask = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    for row, (tokens, border) in enumerate(joined):
        ids[row, : len(tokens)] = tokens
        segments[row, border : len(tokens)] = 1
        places[row, :border] = range(border)
        places[row, border : len(tokens)] = range(len(tokens) - border)
        mask[row, : len(tokens)] = 1
    words = (mask == 1) & (ids != cls) & (ids != sep)
    return Batch(ids, segments, places, mask, words, len(groups[0].passages))


def batches(
    groups: Sequence[Group], cls: int, sep: int, *, size: int, limits: Sequence[int], epochs: int, seed: int
) -> Iterator[Batch]:
    """All batches of a run, the same each time; each has a limit of its own, so that the model sees several lengths."""
    rng = random.Random(seed)  # noqa: S311 (an order of training, not a secret)
    for _ in range(epochs):
        order = rng.sample(range(len(groups)), len(groups))
        for start in range(0, len(order), size * _POOL):
            pool = sorted(order[start : start + size * _POOL], key=lambda i: sum(map(len, groups[i].passages)))
            parts = [pool[k : k + size] for k in range(0, len(pool), size)]
            for part in rng.sample(parts, len(parts)):
                yield collate([groups[i] for i in part], cls, sep, rng.choice(limits))


def count_batches(groups: int, size: int, epochs: int) -> int:
    """How many batches `batches` yields."""
    whole, rest = divmod(groups, size * _POOL)
    return epochs * (whole * _POOL + -(-rest // size))
