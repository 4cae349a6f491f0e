"""The model: causal, exported to the logit, and compared with n-grams that sum to one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="requirements/reranker.txt is not installed")
pytest.importorskip("transformers", reason="requirements/reranker.txt is not installed")

import numpy as np
import torch

from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.export import export, parity, to_qwen3
from capstan.jobs.pretrain.model import Decoder, Shape, flops_per_token, hidden_matrices
from capstan.jobs.pretrain.nanogpt import NanoGpt
from capstan.jobs.pretrain.ngrams import Trigram, Unigram

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
SHAPE = Shape(vocabulary=320, context=24, depth=3)


def trained_like(model: torch.nn.Module) -> Any:
    """Weights that are nowhere zero, as after training."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("kind", [Decoder, NanoGpt])
def test_no_position_sees_what_comes_after_it(kind: Any) -> None:
    model = trained_like(kind(SHAPE))
    tokens = torch.randint(0, 320, (2, 24))
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 320
    before, after = model(tokens), model(changed)
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-5)
    assert not torch.allclose(before[:, 12:], after[:, 12:], atol=1e-3)


@pytest.mark.parametrize(("depth", "tied", "millions"), [(2, True, 0.95), (4, True, 4.3), (12, False, 55.3)])
def test_depth_is_the_one_dial(depth: int, tied: bool, millions: float) -> None:
    shape = Shape(16384 if depth == 12 else 4096, 512, depth, tied)
    with torch.device("meta"):
        model = Decoder(shape)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
    assert len(hidden_matrices(model)) == 7 * depth
    assert flops_per_token(model, shape) > 6 * sum(p.numel() for p in hidden_matrices(model))


@pytest.mark.parametrize("tied", [True, False])
def test_the_export_computes_the_same_logits(tied: bool) -> None:
    model = trained_like(Decoder(Shape(320, 24, 3, tied)))
    assert parity(model, to_qwen3(model), torch.randint(0, 320, (4, 24))) <= 1e-4


def test_an_export_that_differs_is_refused() -> None:
    model = trained_like(Decoder(SHAPE))
    theirs = to_qwen3(model)
    with torch.no_grad():
        theirs.model.layers[1].self_attn.q_norm.weight.mul_(1.5)
    with pytest.raises(PretrainError, match="logits differ"):
        parity(model, theirs, torch.randint(0, 320, (4, 24)))


def test_the_artifact_loads_as_any_checkpoint_and_lists_every_file(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = trained_like(Decoder(SHAPE))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "stale").write_text("of an earlier export")
    tokens = torch.randint(0, 320, (2, 24))
    export(model, tmp_path / "tokenizer.json", tokens, artifact, lambda worst: ("# card", {"worst": worst}))
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert set(manifest["files"]) | {"manifest.json"} == set(os.listdir(artifact))
    assert "stale" not in manifest["files"]
    ids = AutoTokenizer.from_pretrained(artifact)("The open file.", return_tensors="pt").input_ids
    assert ids[0, 0] == 0  # the boundary that training put before every document
    assert torch.equal(ids[0], torch.tensor(tokenizer.encode("The open file.").ids))
    theirs = AutoModelForCausalLM.from_pretrained(artifact, dtype=torch.float32)
    assert torch.allclose(theirs(ids).logits, model(ids), atol=1e-4)


@pytest.mark.parametrize("kind", [Unigram, Trigram])
def test_n_gram_probabilities_sum_to_one(kind: Any) -> None:
    rng = np.random.default_rng(1)
    stream = rng.zipf(1.4, 4000).clip(max=49).astype(np.uint64)
    model = kind(stream, 50)
    for context in (stream[7:9], np.array([49, 49], np.uint64)):  # seen, and hardly seen
        each = [model.log_probabilities(np.array([*context, token], np.uint64))[-1] for token in range(50)]
        assert np.exp(each).sum() == pytest.approx(1, abs=1e-6)


def test_a_trigram_knows_what_follows() -> None:
    stream = np.array([1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 2, 5] * 30, np.uint64)
    trigram, unigram = Trigram(stream, 8), Unigram(stream, 8)
    text = np.array([1, 2, 3], np.uint64)
    assert np.exp(trigram.log_probabilities(text)[-1]) > 0.9
    assert trigram.log_probabilities(text)[-1] > unigram.log_probabilities(text)[-1]
