"""Small runs in a row: the scaling ladder, and our recipe beside nanoGPT's."""

import json
import math
import statistics
import time
from dataclasses import asdict, replace
from typing import Any

import torch

from capstan.jobs.pretrain import scaling
from capstan.jobs.pretrain.checkpoint import CHECKPOINT
from capstan.jobs.pretrain.model import flops_per_token, multiplying
from capstan.jobs.pretrain.pack import Rows, bytes_per_token
from capstan.jobs.pretrain.recipe import Recipe
from capstan.jobs.pretrain.train import Run, Stepper, make_model, shape_of, train
from capstan.jobs.pretrain.world import ALONE

NANOGPT_RATES = (1e-3, 3e-3, 6e-3)
"""Learning rates that nanoGPT's recipe may choose from; its default, 6e-4, is for a model thirty times as large."""
Trained = dict[str, Any]


class Stopped(Exception):
    """The process was asked to stop; what is finished is kept."""


class Bench:
    """Trains variants of a recipe on the same rows; one that is finished is remembered, whatever asked for it."""

    def __init__(self, vocabulary: int, data: tuple[Rows, Rows], run: Run) -> None:
        self.vocabulary, self._data, self._run = vocabulary, data, run
        self.bytes_per_token = bytes_per_token(data[1])

    def train(self, name: str, recipe: Recipe) -> Trained:
        """Size, work, held-out bits per byte and speed of a run. Raises `Stopped`."""
        out = self._run.out / "bench" / recipe.identity[:16]
        result = out / "result.json"
        if result.is_file():
            return dict(json.loads(result.read_text()))
        self._run.say(f"{name}: {recipe.training.tokens:,} tokens")
        out.mkdir(parents=True, exist_ok=True)
        torch.compiler.reset()
        run = replace(self._run, out=out, curve=[])
        model = train(recipe, self.vocabulary, self._data, run)
        if model is None:
            raise Stopped
        last = run.curve[-1]
        shape = shape_of(recipe, self.vocabulary)
        found = {
            "depth": shape.depth,
            "width": shape.width,
            "total_parameters": sum(p.numel() for p in model.parameters()),
            "parameters": multiplying(model, shape),
            "tokens": last["tokens"],
            "bytes": round(last["tokens"] * self.bytes_per_token),
            "flops": flops_per_token(model, shape) * last["tokens"],
            "loss": round(last["val_loss"], 4),
            "bits_per_byte": round(last["val_loss"] / math.log(2) / self.bytes_per_token, 4),
            "tokens_s": statistics.median(point["tokens_s"] for point in run.curve),
        }
        result.write_text(json.dumps(found) + "\n")
        (out / CHECKPOINT).unlink()
        self._run.say(f"{name}: {found['bits_per_byte']:.4f} bits per byte, {found['tokens_s']:,.0f} tokens/s")
        return found


def short(recipe: Recipe, tokens: int, **model: Any) -> Recipe:
    """The recipe at another size and length, its loss taken once, on all held-out rows."""
    once = {"tokens": tokens, "validate_every": 10**9, "validation_rows": 10**9}
    return recipe.with_(model=model, training=once)


def climb(recipe: Recipe, bench: Bench) -> dict[str, Any]:
    """Every depth at every length, and the laws through them."""
    plan = recipe.ladder
    points = [
        bench.train(f"depth {depth}", short(recipe, tokens, depth=depth))
        for depth in plan.depths
        for tokens in plan.tokens
    ]
    law = scaling.fit(points)
    return {"runs": points, "law": asdict(law), "compute_law": scaling.compute_law(points)}


def nanogpt(recipe: Recipe, rate: float, tokens: int) -> Recipe:
    """nanoGPT's recipe at this size: GPT-2, AdamW with weight decay 0.1, cosine to a tenth."""
    changed = short(recipe, tokens, architecture="nanogpt", tied=True)
    adam = {"optimizer": "adamw", "adam_rate": rate, "weight_decay": 0.1, "schedule": "cosine"}
    return changed.with_(training=adam)


def compare(recipe: Recipe, bench: Bench, rows: Rows) -> dict[str, Any]:
    """Ours, nanoGPT's with the best of its rates, and what single choices of ours are worth, on the same tokens."""
    tokens, first = recipe.ladder.tokens[-1], recipe.ladder.tokens[0]
    trials = {rate: bench.train(f"nanogpt, {rate:g}", nanogpt(recipe, rate, first)) for rate in NANOGPT_RATES}
    rate = min(trials, key=lambda r: trials[r]["bits_per_byte"])
    ours, theirs = short(recipe, tokens), nanogpt(recipe, rate, tokens)
    variants = {
        "ours": ours,
        "nanogpt": theirs,
        "ours, embeddings " + ("untied" if recipe.model.tied else "tied"): short(
            recipe, tokens, tied=not recipe.model.tied
        ),
        "ours, AdamW for everything": ours.with_(training={"optimizer": "adamw"}),
        "ours, cosine": ours.with_(training={"schedule": "cosine"}),
    }
    runs = {name: bench.train(name, variant) for name, variant in variants.items()}
    on_cpu = theirs.with_(training={"precision": "fp32", "compile": False})
    speeds = speed({"ours": ours, "nanogpt": theirs, "nanogpt, as it runs on a CPU": on_cpu}, bench.vocabulary, rows)
    return {
        "nanogpt_rates": {f"{r:g}": trial["bits_per_byte"] for r, trial in trials.items()},
        "nanogpt_rate": rate,
        "runs": runs,
        **speeds,
    }


def speed(variants: dict[str, Recipe], vocabulary: int, rows: Rows, steps: int = 8) -> dict[str, dict[str, int]]:
    """Tokens a second of whole steps, by the clock and by the time of the cores; medians.

    Variants take turns, so that what else the machine does meets all of them.
    """
    torch.compiler.reset()
    steppers = {}
    for name, recipe in variants.items():
        steppers[name] = Stepper(recipe, make_model(recipe, shape_of(recipe, vocabulary)), rows, ALONE, print)
        steppers[name].step(0)  # compiles
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for number in range(1, steps + 1):
        for name, stepper in steppers.items():
            wall, cores = time.perf_counter(), time.process_time()
            stepper.step(number)
            spent[name].append((time.perf_counter() - wall, time.process_time() - cores))
    found: dict[str, dict[str, int]] = {"tokens_s": {}, "tokens_core_s": {}}
    for name, recipe in variants.items():
        for speeds, seconds in zip(found.values(), zip(*spent[name], strict=True), strict=True):
            speeds[name] = round(recipe.training.batch_tokens / statistics.median(seconds))
    return found
