"""The int8 cross-encoder over the artifact that is shipped."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capstan.common.cross_encoder import QUERY_TOKENS, CrossEncoder
from capstan.common.encoder_graph import UnsupportedModel

ARTIFACT = Path(__file__).parents[3] / "training-jobs" / "artifacts" / "reranker"
PASSAGES = ["fork(2): create a child process", "A recipe with eggs and flour. " * 40, "unlink(2): delete a name"]


@pytest.fixture(scope="module")
def model() -> CrossEncoder:
    return CrossEncoder(ARTIFACT, passage_tokens=64)


def test_threads_change_nothing_but_speed(model: CrossEncoder) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert model.logits("delete a file", PASSAGES, pool) == model.logits("delete a file", PASSAGES)


def test_query_and_passage_are_cut_to_what_is_read(model: CrossEncoder) -> None:
    ids, border = model.pair(list(range(1000, 1200)), list(range(2000, 2200)))
    assert border == QUERY_TOKENS + 2
    assert len(ids) == QUERY_TOKENS + 2 + 64 + 2


def test_the_order_of_the_two_matters(model: CrossEncoder) -> None:
    forward, _ = model.logits("delete a file", ["unlink(2): delete a name and possibly the file it refers to"])
    backward, _ = model.logits("unlink(2): delete a name and possibly the file it refers to", ["delete a file"])
    assert forward != backward


@pytest.mark.parametrize("missing", ["config.json", "model.onnx", "tokenizer.json"])
def test_an_incomplete_directory_is_named(tmp_path: Path, missing: str) -> None:
    for name in {"config.json", "model.onnx", "tokenizer.json"} - {missing}:
        (tmp_path / name).write_text("{}")
    with pytest.raises(UnsupportedModel, match=missing):
        CrossEncoder(tmp_path, passage_tokens=8)
