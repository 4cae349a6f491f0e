"""Documents packed into rows of equal length, memory-mapped.

Every row begins with the boundary token, and so does every document in it. A document longer than a row is cut into
pieces; pieces are put, longest first, into the row that they fill best (Ding et al. 2024), so that next to nothing is
padded and nothing is thrown away. The order of rows in an epoch follows from the seed alone, so the number of rows read
so far is a complete cursor.
"""

import json
import os
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.tokenizer import BOUNDARY_ID

PAD = 65535
"""Marks the unused end of a row; no token has this id."""
_BUFFER = 4096  # documents packed together: enough for a tight fit, and memory that does not grow with the corpus


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put pieces (each at most `capacity` long) into rows, longest first, each where the least room is left over."""
    rooms: list[tuple[int, int]] = []  # (free, row), sorted
    rows: list[list[int]] = []
    for piece in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        place = bisect_left(rooms, (lengths[piece], -1))
        if place < len(rooms):
            free, row = rooms.pop(place)
        else:
            free, row = capacity, len(rows)
            rows.append([])
        rows[row].append(piece)
        insort(rooms, (free - lengths[piece], row))
    return rows


def pieces_of(tokens: Sequence[int], capacity: int) -> Iterator[list[int]]:
    """A document's tokens behind a boundary, cut so that each piece fits into a row."""
    for start in range(0, max(len(tokens), 1), capacity - 1):
        yield [BOUNDARY_ID, *tokens[start : start + capacity - 1]]


def pack(texts: Iterable[str], tokenizer: Tokenizer, context: int, path: Path) -> dict[str, Any]:
    """Write rows of `context` + 1 uint16 tokens to `path` and what was counted beside it; complete or absent."""
    capacity = context + 1
    count = {"rows": 0, "tokens": 0, "pieces": 0, "documents": 0, "bytes": 0}
    part = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with part.open("wb") as file:
        source = iter(texts)
        while batch := list(islice(source, _BUFFER)):
            encoded = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            pieces = [piece for one in encoded for piece in pieces_of(one.ids, capacity)]
            rows = best_fit([len(piece) for piece in pieces], capacity)
            packed = np.full((len(rows), capacity), PAD, np.uint16)
            for row, members in zip(packed, rows, strict=True):
                joined = [token for member in members for token in pieces[member]]
                row[: len(joined)] = joined
            file.write(packed.tobytes())
            sizes = (len(rows), sum(map(len, pieces)), len(pieces), len(batch), sum(len(t.encode()) for t in batch))
            count = {key: total + new for (key, total), new in zip(count.items(), sizes, strict=True)}
    if not count["rows"]:
        raise PretrainError(f"there is no text to pack into {path.name}; run data again with wider filters")
    positions = count["rows"] * capacity
    about = {**count, "context": context, "padding": 1 - count["tokens"] / positions}
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    os.replace(part, path)
    return about


class Rows:
    """Packed rows, read through a memory map."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise PretrainError(f"{path} is missing; run pack first")
        self.about: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        width = self.about["context"] + 1
        self._rows: NDArray[np.uint16] = np.memmap(path, np.uint16, "r").reshape(-1, width)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        """Rows of those numbers: int64 of shape (numbers, context + 1)."""
        return torch.from_numpy(self._rows[numbers].astype(np.int64))

    def at(self, cursor: int, count: int, seed: int) -> torch.Tensor:
        """The next `count` rows after `cursor` rows were read, each epoch in an order of its own."""
        numbers = []
        while count:
            epoch, place = divmod(cursor, len(self))
            order = np.random.default_rng((seed, epoch)).permutation(len(self))
            numbers.append(order[place : place + count])
            cursor, count = cursor + len(numbers[-1]), count - len(numbers[-1])
        return self.take(np.concatenate(numbers))


def inputs_and_targets(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift rows by one. Padding reads as the boundary and is no target (-100), nor are boundaries after it.

    The first padded place of a row is a target: there the last document has ended.
    """
    inputs, targets = rows[:, :-1].clone(), rows[:, 1:].clone()
    ended = inputs == PAD
    inputs[ended] = BOUNDARY_ID
    targets[targets == PAD] = BOUNDARY_ID
    targets[ended] = -100
    return inputs, targets


def bytes_per_token(rows: Rows) -> float:
    """Bytes of text by the tokens that stand for them, boundaries apart."""
    return float(rows.about["bytes"] / (rows.about["tokens"] - rows.about["pieces"]))
