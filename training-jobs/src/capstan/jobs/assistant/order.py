"""The order in which rows are trained on: of all epochs, fixed beforehand, so that a resumed run finds its place."""

import random
from collections.abc import Sequence

_BATCHES_TOGETHER = 32
"""Batches whose rows are sorted by length: enough to save most of the padding, few enough to keep them mixed."""


def training_order(lengths: Sequence[int], *, batch: int, epochs: int, seed: int) -> list[int]:
    """Row numbers in turn, each once an epoch, so that the rows of a batch are of about the same length.

    Batches are shuffled; a batch that is not full comes last of its epoch's, and its rows go on in the next one.
    """
    draw = random.Random(seed)  # noqa: S311
    order: list[int] = []
    for _ in range(epochs):
        rows = list(range(len(lengths)))
        draw.shuffle(rows)
        full = len(rows) // batch * batch
        batches: list[list[int]] = []
        for start in range(0, full, batch * _BATCHES_TOGETHER):
            near = sorted(rows[start : min(start + batch * _BATCHES_TOGETHER, full)], key=lambda row: lengths[row])
            batches += [near[at : at + batch] for at in range(0, len(near), batch)]
        draw.shuffle(batches)
        order += [row for rows_together in batches for row in rows_together] + rows[full:]
    return order
