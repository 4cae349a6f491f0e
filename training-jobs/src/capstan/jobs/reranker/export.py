"""The artifact: an int8 graph, its tokenizer and config, a model card and a manifest with the hash of each file."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from capstan.common.cross_encoder import GRAPH, CrossEncoder
from capstan.common.encoder_graph import write_cross_encoder
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.reranker.candidates import Question
from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.evaluate import calibration, report
from capstan.jobs.reranker.recipe import Recipe

MANIFEST = "manifest.json"
CARD = "README.md"
WEIGHTS = "model.safetensors"
MAX_BYTES = 25_000_000


def export(
    model: Path,
    start: Path,
    tokenizer: Path,
    artifact: Path,
    questions: Sequence[Question],
    describe: Callable[[dict[str, Any], int], tuple[str, dict[str, Any]]],
    recipe: Recipe,
) -> dict[str, Any]:
    """Write the artifact of a trained model (config.json and model.safetensors); the measured quality on dev.

    Its weights are blended with those of `start`, the untrained model, as the recipe says. Scores are put on a scale by
    dev questions, and the scale goes into the last layer, so that any runtime gives the same. `describe` makes the card
    and the manifest's head from the quality and the graph's size. Complete or absent. Raises `RerankerError` if the
    artifact is too large to ship.
    """
    artifact.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix=".export-") as scratch:
        draft = Path(scratch) / "artifact"
        draft.mkdir()
        for source in (model / "config.json", tokenizer):
            shutil.copy(source, draft)
        plan = recipe.evaluation
        blend(start, model, plan.blend, draft)
        write_cross_encoder(draft, draft / GRAPH)
        slope, shift = calibration(questions, logits(draft, questions, plan.passage_tokens))
        rescale(draft, slope, shift)
        write_cross_encoder(draft, draft / GRAPH)
        (draft / WEIGHTS).unlink()
        quality = report(questions, logits(draft, questions, plan.passage_tokens), plan.support, recipe.seed)
        card, head = describe(quality, (draft / GRAPH).stat().st_size)
        (draft / CARD).write_text(card, encoding="utf-8")
        _seal(draft, head)
        size = sum(path.stat().st_size for path in draft.iterdir())
        if size > MAX_BYTES:
            raise RerankerError(f"the artifact has {size:,} bytes, more than {MAX_BYTES:,}: a smaller base is needed")
        if artifact.exists():
            os.replace(artifact, Path(scratch) / "before")
        os.replace(draft, artifact)
    return quality


def logits(model_dir: Path, questions: Sequence[Question], passage_tokens: int) -> list[list[float]]:
    """Logits of each question's passages, by the int8 graph."""
    model = CrossEncoder(model_dir, passage_tokens=passage_tokens)
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return [model.logits(question.text, question.passages, threads)[0] for question in questions]


def blend(start: Path, model: Path, share: float, target: Path) -> None:
    """Write weights on the line from `start` to `model`: what training taught without all that it forgot."""
    from safetensors.numpy import load_file, save_file

    before, after = (load_file(directory / WEIGHTS) for directory in (start, model))
    mixed = {name: ((1 - share) * before[name] + share * after[name]).astype(np.float32) for name in after}
    save_file(mixed, target / WEIGHTS, metadata={"format": "pt"})


def rescale(model_dir: Path, slope: float, shift: float) -> None:
    """Make the last layer give `slope` * logit + `shift`."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(model_dir / WEIGHTS)
    for name in ("head.similarity.weight", "head.similarity.bias", "head.cls.weight", "head.cls.bias"):
        weights[name] = (weights[name] * slope).astype(np.float32)
    weights["head.cls.bias"] = weights["head.cls.bias"] + np.float32(shift)
    save_file(weights, model_dir / WEIGHTS, metadata={"format": "pt"})


def _seal(draft: Path, head: dict[str, Any]) -> None:
    """Write the manifest over everything else that is there."""
    files = {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in sorted(draft.iterdir())}
    (draft / MANIFEST).write_text(json.dumps({**head, "files": files}, indent=1) + "\n", encoding="utf-8")
