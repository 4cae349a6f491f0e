"""The model card: what recipe, run and measurements say, around text that a person wrote (recipe `card`)."""

import math
from collections.abc import Mapping
from typing import Any

from capstan.jobs.pretrain.recipe import Recipe

_TEMPLATE = """---
library_name: transformers
pipeline_tag: text-generation
language: en
---

# {name}

A language model of {parameters:,} parameters, trained from nothing on technical documentation in English by Capstan's
pretraining job. It completes text; it does not follow instructions, and what it states is not to be relied on.

| | |
|---|---|
| architecture | Qwen3 (RMSNorm, rotary positions, normalized queries and keys, SwiGLU), {depth} layers of {width} |
| vocabulary | {vocabulary:,} tokens, byte-level BPE, trained on the same documents |
| context | {context} tokens |
| embeddings | {tied} |
| trained on | {tokens:,} tokens, {steps:,} steps of {batch:,} |
| optimizer | {optimizer} |
| time | {hours} hours of one process, other load included |
| largest difference of a logit to the training code | {difference:.1e} (fp32) |

## Data

{data}

Documents are split before training by a hash of their names, after near-duplicates are gone. Held-out documents of
which training has seen more than {overlap:.0%} of the {words}-word sequences are left out of evaluation, and no passage
of a downstream task shares such a sequence with training. E-mail and public IP addresses are replaced; names of people
are not. Licences are those of the documents, named in the corpus manifest.

## Measured

{evaluation}

Perplexity is per token of this model's own tokenizer and says nothing beside that of another; bits per byte do. Both
tasks have four choices, chance 25%: cloze asks for the last word of a passage, section for its heading.

{card}
"""


def model_card(recipe: Recipe, facts: Mapping[str, Any]) -> str:
    """Markdown. `facts` is what the manifest of the artifact holds."""
    plan, shape = recipe.training, facts["shape"]
    muon = f"Muon {plan.muon_rate:g} for the blocks' matrices, AdamW {plan.adam_rate:g} for the rest"
    adam = f"AdamW {plan.adam_rate:g}"
    return _TEMPLATE.format(
        name=recipe.name,
        parameters=facts["parameters"],
        depth=shape["depth"],
        width=facts["width"],
        vocabulary=shape["vocabulary"],
        context=shape["context"],
        tied="tied" if shape["tied"] else "not tied",
        tokens=facts["tokens"],
        steps=facts["steps"],
        batch=plan.batch_tokens,
        optimizer=f"{muon if plan.optimizer == 'muon' else adam}; {plan.schedule}",
        hours=facts["hours"],
        difference=facts["logit_difference"],
        data=_data(facts["data"]),
        overlap=recipe.data.max_overlap,
        words=recipe.data.overlap_words,
        evaluation=_evaluation(facts),
        card=recipe.card.strip(),
    )


def _data(manifest: Mapping[str, Any] | None) -> str:
    if not manifest:
        return "The splits that the tokens were made from are not at hand."
    rows = [f"| {name} | {s['documents']:,} | {s['bytes'] / 1e6:.1f} MB |" for name, s in manifest["splits"].items()]
    return "\n".join(["| split | documents | text |", "|---|---:|---:|", *rows])


def _evaluation(facts: Mapping[str, Any]) -> str:
    """The table of the evaluation; before there is one, the loss of the run."""
    if not facts["evaluation"]:
        loss = facts["val_loss"]
        seen = f"{loss:.3f} nats a token on some held-out rows (perplexity {math.exp(loss):.2f})" if loss else "none"
        return f"Not evaluated yet. Loss of the last validation while training: {seen}."
    rows = ["| model | bits per byte | perplexity | cloze | section |", "|---|---:|---:|---:|---:|"]
    for name, scores in facts["evaluation"]["scores"].items():
        tasks = (scores[task] for task in ("cloze", "section"))
        cells = [f"{task['accuracy']:.1%} ± {task['standard_error']:.1%}" for task in tasks]
        perplexity = f"{scores['perplexity']:.2f}" if "perplexity" in scores else ""
        rows.append(f"| {name} | {scores['bits_per_byte']:.3f} | {perplexity} | {' | '.join(cells)} |")
    return "\n".join(rows)
