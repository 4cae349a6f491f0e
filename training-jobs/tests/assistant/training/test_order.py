"""The order of training rows: all of them, in every epoch, with little padding, and the same again."""

import random

from capstan.jobs.assistant.order import training_order

_DRAW = random.Random(1)
LENGTHS = [_DRAW.randrange(20, 600) for _ in range(500)]


def padding(order: list[int], batch: int) -> float:
    batches = [[LENGTHS[row] for row in order[at : at + batch]] for at in range(0, len(order), batch)]
    padded = sum(max(some) * len(some) for some in batches)
    return 1 - sum(map(sum, batches)) / padded


def test_every_row_comes_once_an_epoch() -> None:
    order = training_order(LENGTHS, batch=8, epochs=3, seed=4)
    assert sorted(order) == sorted([*range(500)] * 3)
    assert sorted(order[:500]) == [*range(500)]


def test_rows_of_a_batch_are_of_about_the_same_length() -> None:
    mixed = [*range(500)]
    random.Random(2).shuffle(mixed)
    assert padding(training_order(LENGTHS, batch=8, epochs=1, seed=4), 8) < 0.1 < padding(mixed, 8)


def test_batches_are_not_in_the_order_of_their_length() -> None:
    order = training_order(LENGTHS, batch=8, epochs=1, seed=4)
    means = [sum(LENGTHS[row] for row in order[at : at + 8]) for at in range(0, 480, 8)]
    assert means not in (sorted(means), sorted(means, reverse=True))


def test_the_same_seed_is_the_same_order_and_another_is_not() -> None:
    assert training_order(LENGTHS, batch=8, epochs=2, seed=4) == training_order(LENGTHS, batch=8, epochs=2, seed=4)
    assert training_order(LENGTHS, batch=8, epochs=2, seed=4) != training_order(LENGTHS, batch=8, epochs=2, seed=5)


def test_epochs_differ() -> None:
    order = training_order(LENGTHS, batch=8, epochs=2, seed=4)
    assert order[:500] != order[500:]
