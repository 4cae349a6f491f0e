"""A model as a Hugging Face checkpoint; a GGUF file becomes one once, in the cache, for workers and jobs alike."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from capstan.common.models import ModelError, ModelRef

Convert = Callable[[Path, Path], None]
Say = Callable[[str], None]

NOTE = "capstan-model.json"
_GROWTH = 4  # a 4-bit file grows by about this factor as 16-bit numbers


def prepare(ref: str, cache_dir: Path, *, convert: Convert | None = None, say: Say = lambda _: None) -> Path:
    """The directory with `config.json` for model reference `ref`. Raises `ModelError`."""
    parsed = ModelRef.parse(ref)
    source = parsed.resolve(cache_dir)
    if (source / "config.json").is_file():
        return source
    gguf = _only_gguf(parsed, source)
    return _checkpoint(parsed, gguf, cache_dir / "models", convert or convert_gguf, say)


def _only_gguf(ref: ModelRef, source: Path) -> Path:
    files = sorted(source.glob("*.gguf"))
    if not files:
        raise ModelError(f"{ref}: neither config.json nor a .gguf file is in it")
    if len(files) > 1:
        raise ModelError(f"{ref}: holds {len(files)} .gguf files; keep the one to serve in a directory of its own")
    return files[0]


def _checkpoint(ref: ModelRef, gguf: Path, models: Path, convert: Convert, say: Say) -> Path:
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = models / f"{gguf.stem}-{digest[:16]}"
    if target.is_dir():
        return target
    models.mkdir(parents=True, exist_ok=True)
    _require_space(ref, gguf, models)
    say(f"converting {gguf.name} into a checkpoint (once, less than a minute)")
    with tempfile.TemporaryDirectory(dir=models, prefix=".convert-") as scratch:
        output = Path(scratch, "checkpoint")
        output.mkdir()
        convert(gguf, output)
        note = f"De-quantized to bfloat16 from {gguf.name}; the weights keep the precision of that quantized file."
        (output / NOTE).write_text(json.dumps({"source": str(ref), "gguf_sha256": digest, "note": note}, indent=2))
        _publish(output, target)
    say(f"model ready. {note}")
    return target


def _require_space(ref: ModelRef, gguf: Path, models: Path) -> None:
    needed = gguf.stat().st_size * _GROWTH
    free = shutil.disk_usage(models).free
    if free < needed:
        raise ModelError(
            f"{ref}: {needed >> 20} MB of disk are needed in {models}, {free >> 20} MB are free; "
            "free some or set CAPSTAN_CACHE_DIR"
        )


def _publish(output: Path, target: Path) -> None:
    """Rename into place: readers see all of it or nothing. Where another process was faster, its copy stays."""
    try:
        output.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def convert_gguf(gguf: Path, output: Path) -> None:
    """Write weights (bfloat16), tokenizer and chat template of `gguf` as a Hugging Face checkpoint."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # one bar redraws itself hundreds of times in a log
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    directory, name = str(gguf.parent), gguf.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            gguf_file=name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"{gguf.name} cannot be converted: {error}") from error
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
