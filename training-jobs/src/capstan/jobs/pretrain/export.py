"""The artifact: a standard Hugging Face checkpoint (Qwen3), tokenizer, model card, and a manifest with every hash."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.model import HEAD, NORM_EPS, ROPE_BASE, Decoder
from capstan.jobs.pretrain.tokenizer import BOUNDARY, BOUNDARY_ID

MANIFEST = "manifest.json"
CARD = "README.md"
PARITY = 1e-4
"""Largest difference of a logit, in fp32."""
Describe = Callable[[float], tuple[str, dict[str, Any]]]


def to_qwen3(model: Decoder) -> Qwen3ForCausalLM:
    """The same weights in Hugging Face's class."""
    shape = model.shape
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=HEAD,
        max_position_embeddings=shape.context,
        rms_norm_eps=NORM_EPS,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
        tie_word_embeddings=shape.tied,
        bos_token_id=BOUNDARY_ID,
        eos_token_id=BOUNDARY_ID,
    )
    theirs: Any = Qwen3ForCausalLM(config)
    weights = model.state_dict()
    theirs.load_state_dict({n if n.startswith("lm_head") else f"model.{n}": value for n, value in weights.items()})
    theirs.eval()
    return theirs  # type: ignore[no-any-return]


@torch.no_grad()
def parity(model: Decoder, theirs: Qwen3ForCausalLM, tokens: torch.Tensor) -> float:
    """Largest difference of a logit on `tokens`, shape (rows, time). Raises `PretrainError` above `PARITY`."""
    difference = (model.eval()(tokens) - theirs(tokens).logits).abs().max().item()
    if not difference <= PARITY:
        raise PretrainError(f"the exported model's logits differ by {difference:.2g}, more than {PARITY:g}")
    return float(difference)


def export(model: Decoder, tokenizer: Path, tokens: torch.Tensor, artifact: Path, describe: Describe) -> dict[str, Any]:
    """Write the artifact, complete or absent; its manifest. `describe` makes card and manifest head from the parity."""
    theirs = to_qwen3(model)
    card, head = describe(parity(model, theirs, tokens))
    artifact.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix=".export-") as scratch:
        draft = Path(scratch, "artifact")
        theirs.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=BOUNDARY_ID, eos_token_id=BOUNDARY_ID
        )
        theirs.save_pretrained(draft)
        PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=str(tokenizer),
            bos_token=BOUNDARY,
            eos_token=BOUNDARY,
            model_max_length=model.shape.context,
            clean_up_tokenization_spaces=False,
        ).save_pretrained(draft)
        (draft / CARD).write_text(card, encoding="utf-8")
        written = sorted(draft.iterdir())
        files = {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in written}
        manifest = {**head, "files": files}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        if artifact.exists():
            shutil.move(artifact, Path(scratch, "before"))
        os.replace(draft, artifact)
    return manifest
