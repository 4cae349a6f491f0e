"""`make quantize`: the native stack's model as an AWQ INT4 checkpoint, made by llm-compressor on this CPU, once.

AWQ (Lin et al., MLSys 2024) scales the weights that matter before they are rounded; which ones matter is seen on a
few texts. Ours are this repository's documents: only their activations are looked at. Runs in the environment
`quantize`, which has the worker's PyTorch.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from capstan.common.provenance import provenance
from capstan.common.settings import CommonSettings
from capstan.worker.prepare import prepare
from capstan.worker.settings import WorkerSettings

NOTE = "capstan-awq.json"
GROUP = 64
"""Weights that share a scale. SmolLM2's width of 576 is no multiple of the usual 128."""
_SAMPLES, _TOKENS = 32, 256
_QUICK_SAMPLES, _QUICK_TOKENS = 2, 64
_HALF = "bfloat16"


def directory(*, quick: bool) -> Path:
    """Where the checkpoint lies. A quick one saw next to nothing: good enough to see that it is served."""
    return CommonSettings().cache_dir / "models" / f"smollm2-135m-awq-g{GROUP}{'-quick' if quick else ''}"


def note(checkpoint: Path) -> dict[str, Any]:
    """How a checkpoint was made: samples, tokens, seconds, sizes in bytes, and provenance."""
    found: dict[str, Any] = json.loads((checkpoint / NOTE).read_text())
    return found


def main() -> None:
    """Quantize, unless it is done."""
    argparse.ArgumentParser(prog="quantize", description=__doc__).parse_args()
    quick = bool(os.environ.get("QUICK"))
    target = directory(quick=quick)
    if (target / NOTE).exists():
        print(f"quantized before: {target.name}")
        return
    began = time.monotonic()
    source = prepare(WorkerSettings.model_fields["model"].default, CommonSettings().cache_dir, say=print)
    scratch = target.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    samples, tokens = (_QUICK_SAMPLES, _QUICK_TOKENS) if quick else (_SAMPLES, _TOKENS)
    quantize(source, scratch, samples=samples, tokens=tokens)
    weights = {name: (path / "model.safetensors").stat().st_size for name, path in (("from", source), ("to", scratch))}
    note = {**provenance(), "samples": samples, "tokens": tokens, "group_size": GROUP, "bytes": weights}
    (scratch / NOTE).write_text(json.dumps({**note, "seconds": round(time.monotonic() - began)}, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)
    print(f"{target.name}: {weights['to'] / 1e6:.0f} MB of {weights['from'] / 1e6:.0f}")


def quantize(source: Path, target: Path, *, samples: int, tokens: int) -> None:
    """Write `source`'s checkpoint to `target` with 4-bit weights, embeddings and head as they were."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.awq import AWQModifier
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not torch.cuda.is_available():
        torch.Tensor.pin_memory = _as_it_is  # type: ignore[assignment] # AWQ pins memory even where nothing is to be fed
    model = AutoModelForCausalLM.from_pretrained(source, dtype=_HALF)
    tokenizer = AutoTokenizer.from_pretrained(source)
    rows = [tokenizer(text, truncation=True, max_length=tokens) for text in _texts(samples, tokens)]
    scheme = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": GROUP,
    }
    group = {"targets": ["Linear"], "weights": scheme}
    recipe = AWQModifier(ignore=["lm_head"], config_groups={"group_0": group})
    oneshot(
        model=model,
        dataset=Dataset.from_list([dict(row) for row in rows]),
        recipe=recipe,
        max_seq_length=tokens,
        num_calibration_samples=samples,
    )
    model.save_pretrained(target, save_compressed=True)
    tokenizer.save_pretrained(target)


def _as_it_is(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor


def _texts(number: int, tokens: int) -> list[str]:
    """Passages of the repository's documents, as many and each at least as long as asked for."""
    root = Path(os.environ["CAPSTAN_NATIVE_ROOT"])
    whole = "\n".join(path.read_text() for path in sorted(root.glob("docs/**/*.md")))
    length = 8 * tokens  # characters; more than enough, the tokenizer cuts
    return [whole[start : start + length] for start in range(0, len(whole) - length, len(whole) // number)][:number]


if __name__ == "__main__":
    main()
