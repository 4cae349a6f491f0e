"""Gathers what was measured of a run into the file that is committed."""

import json
import statistics
from pathlib import Path
from typing import Any

from capstan.jobs.pretrain import scaling
from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.recipe import Recipe

RUN, EVALUATION, LADDER, COMPARISON = "run.json", "evaluation.json", "ladder.json", "comparison.json"
_CURVE_POINTS = 200


def weights_name(recipe: Recipe, tokens: float) -> str:
    """Which weights an evaluation is of: those of a recipe after so many tokens."""
    return f"{recipe.identity[:16]}/{tokens:.0f}"


def current_evaluation(recipe: Recipe, out: Path, tokens: float) -> dict[str, Any] | None:
    """The whole evaluation of these weights, if there is one."""
    path = out / EVALUATION
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found if found.get("weights") == weights_name(recipe, tokens) and found["limit"] is None else None


def gather(recipe: Recipe, size: dict[str, float], out: Path, data: Path, ladder: Path) -> dict[str, Any]:
    """Figures of a run; those that are not measured yet are listed under `missing`. Raises `PretrainError`.

    `size` holds `params`, those of them that multiply, and `bytes_per_token`.
    """
    read = {
        "run": out / RUN,
        "ladder": ladder / LADDER,
        "comparison": ladder / COMPARISON,
        "data": data / "manifest.json",
    }
    found = {name: json.loads(path.read_text()) for name, path in read.items() if path.is_file()}
    if not found:
        raise PretrainError(f"nothing is measured in {out} and {ladder}")
    if "run" in found and (scored := current_evaluation(recipe, out, found["run"]["curve"][-1]["tokens"])):
        found["evaluation"] = scored
    missing = [name for name in (*read, "evaluation") if name not in found]
    result: dict[str, Any] = {"recipe": recipe.name, "missing": missing, **size}
    if "run" in found:
        result |= _of_run(recipe, found["run"])
    if "evaluation" in found:
        scores = found["evaluation"]["scores"]
        mine = scores[recipe.name]
        result |= {"val_bpb": mine["bits_per_byte"], "val_ppl": mine.get("perplexity")}
        result |= {"unigram_bpb": scores["unigram"]["bits_per_byte"], "trigram_bpb": scores["trigram"]["bits_per_byte"]}
    if "comparison" in found:
        runs, speeds = found["comparison"]["runs"], found["comparison"]["tokens_s"]
        result |= {f"{key}_at_ladder_size": runs[name]["bits_per_byte"] for name, key in _COMPARED}
        result |= {
            "tokens_s_at_ladder_size": speeds["ours"],
            "nanogpt_tokens_s": speeds["nanogpt, as it runs on a CPU"],
        }
    if "ladder" in found:
        result |= _prediction(recipe, size, found["ladder"])
    return {**result, **{name: value for name, value in found.items() if name != "run"}}


_COMPARED = (("ours", "our_bpb"), ("nanogpt", "nanogpt_recipe_bpb"))


def _of_run(recipe: Recipe, run: dict[str, Any]) -> dict[str, Any]:
    """Size, length and speed, and the curve: its validations, and every so many-th step."""
    curve = run["curve"]
    every = max(1, len(curve) // _CURVE_POINTS)
    kept = [p for n, p in enumerate(curve) if n % every == 0 or "val_loss" in p]
    return {
        "tokens": curve[-1]["tokens"],
        "steps_planned": recipe.training.steps,
        "finished": curve[-1]["tokens"] >= recipe.training.tokens,
        "tokens_s": statistics.median(point["tokens_s"] for point in curve),
        "core_hours": round(sum(point["seconds"] for point in curve) * run["machine"]["cpus"] / 3600, 2),
        "curve": [{key: round(value, 4) for key, value in point.items()} for point in kept],
    }


def _prediction(recipe: Recipe, size: dict[str, float], ladder: dict[str, Any]) -> dict[str, Any]:
    """What the ladder says of the run when it has all its tokens, and which of its sizes uses the work best."""
    law, tokens = scaling.Law(**ladder["law"]), recipe.training.tokens
    parameters, compression = size["multiplying_params"], size["bytes_per_token"]
    sizes, work = [run["parameters"] for run in ladder["runs"]], 6 * parameters * tokens
    return {
        "predicted_bpb": scaling.predict(ladder["runs"], parameters, tokens * compression),
        "best_parameters": round(law.best_parameters(work, compression, min(sizes), max(sizes))),
    }
