"""Quantize a checkpoint to AWQ INT4, once. Without arguments: the native stack's model, for the benchmarks."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from capstan.common.checkpoint import prepare
from capstan.common.settings import load
from capstan.jobs.command import JobError, JobSettings, run_job
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.quantize.awq import MODEL, NOTE, native_checkpoint, note, quantize
from capstan.jobs.quantize.texts import of_documents, of_items

_SAMPLES, _TOKENS = 32, 256
_QUICK_SAMPLES, _QUICK_TOKENS = 2, 64
_ITEM_SAMPLES, _ITEM_TOKENS = 64, 512


def main() -> int:
    """Quantize, unless it is done; the exit code."""
    arguments = _parser().parse_args()

    def work() -> None:
        cache = load(JobSettings).cache_dir
        if arguments.items:
            _assistant(arguments.model, arguments.items, arguments.to, cache)
        else:
            _native(cache, quick=bool(os.environ.get("QUICK")))

    return run_job(work, stopped="stopped; nothing was kept")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m capstan.jobs.quantize", description=__doc__)
    parser.add_argument("--model", metavar="REFERENCE", help="the merged model: file:DIR/merged")
    parser.add_argument("--items", type=Path, help="items to calibrate on: DIR/data/train.jsonl")
    parser.add_argument("--to", type=Path, help="the directory to write: DIR/awq")
    return parser


def _native(cache: Path, *, quick: bool) -> None:
    target = native_checkpoint(cache, quick=quick)
    samples, tokens = (_QUICK_SAMPLES, _QUICK_TOKENS) if quick else (_SAMPLES, _TOKENS)
    if (target / NOTE).exists():
        print(f"quantized before: {target.name}")
        return
    texts = of_documents(Path(os.environ["CAPSTAN_NATIVE_ROOT"]), samples, tokens)
    _say(target, quantize(prepare(MODEL, cache, say=print), target, texts, tokens=tokens, about={}))


def _assistant(model: str | None, items: Path, target: Path | None, cache: Path) -> None:
    if not (model and target):
        raise JobError("give all of --model, --items and --to, or none of them")
    source = prepare(model, cache)
    about = {"model": source.name, "made_from": _made_from(source), "items": items.name}
    if (target / NOTE).exists() and note(target).get("made_from") == about["made_from"]:
        print(f"quantized before: {target.name}")
        return
    texts = of_items(items, source, _ITEM_SAMPLES)
    _say(target, quantize(source, target, texts, tokens=_ITEM_TOKENS, about=about))


def _made_from(source: Path) -> str:
    """What tells one checkpoint from another."""
    return "-".join(sha256_of(path)[:16] for path in sorted(source.glob("*.safetensors")))


def _say(target: Path, made: dict[str, Any]) -> None:
    sizes = made["bytes"]
    print(f"{target.name}: {sizes['to'] / 1e6:.0f} MB of {sizes['from'] / 1e6:.0f}")


if __name__ == "__main__":
    sys.exit(main())
