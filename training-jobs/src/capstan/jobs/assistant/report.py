"""Gathers what was measured of a run into the file that is committed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capstan.jobs.assistant.answers import SFT
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation import EVALUATION
from capstan.jobs.assistant.sampling import BASE

FORMATS, PREFERENCES, RUN, DATA = "formats.json", "preferences.json", "run.json", "data/manifest.json"
_KEPT = [
    *("validation_pass_rate", "validation_prompts", "best_dpo", "chosen", "steps", "win_rates", "win_rate_step"),
    *("variants", "judge", "forgetting"),
]


def gather(name: str, out: Path, rag: Path | None) -> dict[str, Any]:
    """Figures of a run; those that are not measured yet are listed under `missing`. Raises `AssistantError`."""
    names = {"data": DATA, "preferences": PREFERENCES, "evaluation": EVALUATION, "formats": FORMATS}
    read = {key: out / file for key, file in names.items()}
    if rag is not None:
        read["rag"] = rag
    found = {key: json.loads(path.read_text()) for key, path in read.items() if path.is_file()}
    if not found:
        raise AssistantError(f"nothing is measured in {out}; run the data command first")
    training = _training(out)
    missing = [key for key in (*read, *(["rag"] if rag is None else [])) if key not in found]
    evaluated = found.pop("evaluation", None)
    return {
        "recipe": name,
        "missing": [*missing, *([] if training else ["training"])],
        **(_headline(evaluated) if evaluated else {}),
        **({"training": training} if training else {}),
        **found,
    }


def _training(out: Path) -> dict[str, Any]:
    """What the training runs say of themselves."""
    runs = {path.parent.name: json.loads(path.read_text()) for path in sorted((out / "dpo").glob(f"*/{RUN}"))}
    sft = out / "sft" / RUN
    return {
        **({"sft": json.loads(sft.read_text())} if sft.is_file() else {}),
        **({"dpo": runs} if runs else {}),
    }


def _headline(found: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation as the report has it; `dpo` is the variant that validation chose."""
    best, steps, wins = found["best_dpo"], found["steps"], found["win_rates"]
    arms = {BASE: BASE, SFT: SFT, **({"dpo": best} if best else {})}
    models: dict[str, dict[str, Any]] = {}
    for name, arm in arms.items():
        models[name] = {"arm": arm, **found["arms"][arm]}
        if played := wins.get(f"{arm} over {BASE}"):
            models[name] |= {"win_rate_vs_base": played["win_rate"], "win_ci": played["win_ci"]}
            models[name] |= {"lc_win_rate_vs_base": played["lc_win_rate"], "lc_win_ci": played["lc_win_ci"]}
    return {
        "base": found["base"],
        "evaluation": {key: found[key] for key in ("command", "commit", "date", "machine", "limit", "test_sha256")},
        "prompts": found["prompts"],
        "models": models,
        "p_sft_vs_base": steps[f"{SFT} over {BASE}"]["p"],
        "p_dpo_vs_sft": steps[f"{best} over {SFT}"]["p"] if best else None,
        "p_win_rate_sft_vs_base": wins[f"{SFT} over {BASE}"]["p"],
        "p_win_rate_dpo_vs_sft": found["win_rate_step"]["p"] if best else None,
        **{key: found[key] for key in _KEPT},
    }
