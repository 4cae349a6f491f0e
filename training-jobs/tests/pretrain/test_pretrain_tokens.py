"""Tokenizer and packing: nothing is lost, whatever the text."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="requirements/reranker.txt is not installed")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.jobs.pretrain.pack import PAD, Rows, best_fit, bytes_per_token, inputs_and_targets, pack
from capstan.jobs.pretrain.tokenizer import BOUNDARY, BOUNDARY_ID


@given(text=st.text() | st.binary(max_size=200).map(lambda raw: raw.decode(errors="replace")))
@settings(max_examples=200, deadline=None)
def test_any_text_survives_the_round_trip(tokenizer: Any, text: str) -> None:
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(tokens, skip_special_tokens=False) == text


def test_every_byte_has_a_token(tokenizer: Any) -> None:
    """All 256 bytes are in the alphabet, so no text is unknown to it."""
    alone = [token for token in tokenizer.get_vocab() if len(token) == 1]
    assert len(alone) == 256
    assert tokenizer.token_to_id(BOUNDARY) == BOUNDARY_ID


def test_training_shortens_text(tokenizer: Any, texts: list[str]) -> None:
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    assert tokens < 0.7 * sum(len(text.encode()) for text in texts)


@given(lengths=st.lists(st.integers(1, 20), max_size=80))
@settings(deadline=None)
def test_every_piece_is_in_one_row_and_no_row_overflows(lengths: list[int]) -> None:
    rows = best_fit(lengths, 20)
    assert sorted(piece for row in rows for piece in row) == list(range(len(lengths)))
    assert all(sum(lengths[piece] for piece in row) <= 20 for row in rows)
    assert sum(sum(lengths[piece] for piece in row) <= 10 for row in rows) <= 1  # two half-empty rows would be one


@given(texts=st.lists(st.text(max_size=120), min_size=1, max_size=12), context=st.integers(4, 40))
@settings(max_examples=60, deadline=None)
def test_rows_hold_the_documents_and_nothing_else(
    tokenizer: Any, tmp_path_factory: pytest.TempPathFactory, texts: list[str], context: int
) -> None:
    path = tmp_path_factory.mktemp("pack") / "rows.bin"
    about = pack(texts, tokenizer, context, path)
    rows = Rows(path).take(np.arange(about["rows"])).numpy()
    assert (rows[:, 0] == BOUNDARY_ID).all()
    packed = sorted(token for token in rows.ravel().tolist() if token not in (PAD, BOUNDARY_ID))
    encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert packed == sorted(token for ids in encoded for token in ids if token != BOUNDARY_ID)
    assert about["padding"] == pytest.approx((rows == PAD).mean())
    assert about["bytes"] == sum(len(text.encode()) for text in texts)


def test_the_cursor_passes_each_row_once_in_an_epoch_and_in_another_order_in_the_next(rows_dir: Path) -> None:
    rows = Rows(rows_dir / "train.bin")
    epochs = rows.at(0, 2 * len(rows), seed=3).split(len(rows))
    everything = sorted(map(tuple, rows.take(np.arange(len(rows))).tolist()))
    assert [sorted(map(tuple, epoch.tolist())) for epoch in epochs] == [everything] * 2
    assert epochs[0].tolist() != epochs[1].tolist()
    later = rows.at(len(rows) - 2, 5, seed=3)
    assert later.tolist() == [*epochs[0][-2:].tolist(), *epochs[1][:3].tolist()]


def test_the_end_of_the_last_document_is_a_target_and_what_follows_is_none(tokenizer: Any, tmp_path: Path) -> None:
    pack(["a b"], tokenizer, 9, tmp_path / "rows.bin")
    inputs, targets = inputs_and_targets(Rows(tmp_path / "rows.bin").at(0, 1, seed=0))
    text = tokenizer.encode("a b", add_special_tokens=False).ids
    blank = 9 - len(text) - 1
    assert targets[0].tolist() == [*text, BOUNDARY_ID, *[-100] * blank]
    assert inputs[0].tolist() == [BOUNDARY_ID, *text, *[BOUNDARY_ID] * blank]


def test_compression_leaves_boundaries_out(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    pack(texts, tokenizer, 32, tmp_path / "rows.bin")
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    assert bytes_per_token(Rows(tmp_path / "rows.bin")) == pytest.approx(sum(map(len, texts)) / tokens)
    assert json.loads((tmp_path / "rows.json").read_text())["documents"] == len(texts)
