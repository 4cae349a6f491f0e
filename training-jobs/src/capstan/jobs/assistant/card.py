"""Model cards: what recipe, runs and measurements say, around text that a person wrote (recipe `card`)."""

from collections.abc import Mapping
from typing import Any

from capstan.jobs.assistant.recipe import Recipe

_TEMPLATE = """---
library_name: {library}
pipeline_tag: text-generation
language: en
base_model: {base}
---

# {title}

{what}

## Intended use

Answers in English about this stack's own domain: commands of the AWS command line, options of manual pages, Git, SQL
of PostgreSQL and SQLite, and questions on given passages with citations, in the generator's prompt. Prompts as in the
data card; the system message says which form the answer has.

## Limitations

A small model: what it states is to be checked before it is run. It knows the documents that it was trained on and no
others, answers in one turn, in English, and was not trained to refuse. {base_note}

## Data

{data}

## Training

{training}

## Evaluation

{evaluation}

{card}
"""

_QUANTIZED_BASE = (
    "Its base is an instruct model that is distributed in four bits; the weights were brought back to 16 bits and keep "
    "that file's precision."
)


def model_card(recipe: Recipe, arm: str, facts: Mapping[str, Any], *, merged: bool = False) -> str:
    """Markdown. `facts`: `data` (its manifest), `runs` (run.json of SFT and of the variant), `preferences`,
    `evaluation`, each None where there is none yet."""
    adapter = f"A LoRA adapter of rank {recipe.lora.rank} on all linear layers of `{recipe.base}`"
    whole = f"`{recipe.base}` with a LoRA adapter merged into its weights"
    how = "fine-tuned on instructions" if arm == "sft" else "fine-tuned on instructions and optimized on preferences"
    return (
        _TEMPLATE.format(
            library="transformers" if merged else "peft",
            base=recipe.base,
            title=f"{recipe.name}: {arm}{', merged' if merged else ''}",
            what=f"{whole if merged else adapter}, {how} by Capstan's assistant job (recipe `{recipe.name}`).",
            base_note=_QUANTIZED_BASE if recipe.base.startswith("package:") else "",
            data=_data(facts),
            training=_training(recipe, facts),
            evaluation=_evaluation(arm, facts.get("evaluation")),
            card=recipe.card.strip(),
        ).rstrip()
        + "\n"
    )


def _data(facts: Mapping[str, Any]) -> str:
    manifest = facts.get("data")
    if not manifest:
        return "The manifest of the data is not at hand."
    splits = manifest.get("splits", {})
    rows = [f"| {name} | {about.get('items', 0):,} |" for name, about in splits.items()]
    table = "\n".join(["| split | items |", "|---|---:|", *rows])
    return f"{table}\n\nSplit by source command and page, made from documents by templates; see the run's data card."


def _training(recipe: Recipe, facts: Mapping[str, Any]) -> str:
    weights = "NF4 (QLoRA)" if recipe.quantized else "16 or 32 bits, as the machine computes"
    rows = [
        f"Base weights while training: {weights}.",
        "",
        "| | steps | tokens | loss | rate |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, run in facts.get("runs", {}).items():
        rows.append(f"| {name} | {run['steps']:,} | {run['tokens']:,} | {run['loss']:.3f} | {run['rate']:g} |")
    if pairs := facts.get("preferences"):
        used = pairs["used"]
        rows += [
            "",
            f"{used['pairs']:,} preference pairs on {used['prompts']:,} training prompts; chosen answers have "
            f"{used['chosen_tokens']} tokens on average, rejected ones {used['rejected_tokens']}.",
        ]
    return "\n".join(rows)


def _evaluation(arm: str, found: Mapping[str, Any] | None) -> str:
    """The checkers' verdicts on held-out prompts; absent before evaluation."""
    if not found or arm not in found.get("arms", {}):
        return "Not evaluated yet."
    rows = ["| model | passes its checker | exact |", "|---|---:|---:|"]
    for name in dict.fromkeys(("base", "sft", arm)):
        if about := found["arms"].get(name):
            low, high = about["pass_ci"]
            rows.append(f"| {name} | {about['pass_rate']:.1%} ({low:.1%} to {high:.1%}) | {about['exact_rate']:.1%} |")
    lines = [f"Greedy answers to {found['prompts']} prompts of sources that training has not seen.", "", *rows]
    if played := found.get("win_rates", {}).get(f"{arm} over base"):
        lines += ["", f"Preferred to the base model's answer in {played['win_rate']:.1%} of the pairs."]
    return "\n".join(lines)
