"""The model card: what the recipe, the run and the measurement say, around text that a person wrote (recipe `card`)."""

from collections.abc import Mapping
from typing import Any

from capstan.jobs.reranker.recipe import Recipe

_TEMPLATE = """# {name}

A cross-encoder that scores how well a passage of technical documentation answers a query: 6 layers, {size}, int8
ONNX, no PyTorch. Made by `training-jobs` (`recipes/reranker.yaml`) and run by `services/reranker`:

```sh
CAPSTAN_RERANKER_MODEL=file:training-jobs/artifacts/reranker python -m capstan.reranker
```

A pair is `[CLS] query [SEP]` and `[CLS] title > heading` + newline + `passage [SEP]`, each with positions from 0, read
together by one encoder: every token attends to both, and attention across starts damped ({bias:g} on its logits). The
logit is a weighted sum of the similarity of the two (MaxSim over words, cosine of means; both of jointly read tokens)
and a projection of the first token. The sigmoid of it is the score. Its scale was fitted on the dev questions (Platt,
both classes with the same total weight): 0.5 is a passage that is as likely of a linked document as not, if half of all
passages were. Scores order; thresholds are to be measured.

## Data

{pairs:,} queries made from the corpus of `recipes/corpus.yaml` alone, each with the passage that it was made from and
{mined} passages that BM25 or dense search found for it in other documents. Training used {used:,} queries of the kinds
{kinds_used}, each with {negatives} of those passages.

| kind | mined | what it is |
|---|---:|---|
{kinds}

Nothing that evaluation asks is among them: labelled questions (dev and test) and known-item queries are excluded by
text, FAQ pages are not in the corpus, and no link of theirs was used. The dev split chose the settings and the scale.

## Training

From all-MiniLM-L6-v2 (Apache-2.0; `{base}`); word embeddings frozen. Listwise softmax
cross-entropy, AdamW. The target is the positive with {hard:.0%} and the untrained model's own opinion with the rest,
because a mined "negative" may well answer. The shipped weights are {blend:.0%} the trained and {rest:.0%} the untrained
ones.

{settings}

## Measured

On the {questions} dev questions (human-written FAQ questions; gold documents are those that the answers link to, and
others may answer too), the int8 artifact over {depth} hybrid candidates, passages of at most {tokens} tokens; nDCG@10,
p by Fisher's randomization test against {best_single}:

| order | nDCG@10 | p |
|---|---:|---:|
{rows}

Support is `CAPSTAN_RERANKER_SUPPORT`: how much passages of one document raise each other. Settings were chosen on these
questions, so the figures flatter; those of the test split are in `docs/rag.md`.

{card}

## Licence

Apache-2.0, as the model that it was made from. The documents are under the licences that the corpus manifest names;
no text of them is in the weights' files beyond what training leaves in weights.
"""

_KINDS = {
    "question": "a heading that is a question",
    "heading": "a heading, as a question about its section",
    "title": "a document's title or NAME line, for its first section with content",
    "task": "a sentence or list entry that begins with a verb, as a question",
    "cloze": "a sentence, for the passage that it was taken from",
}


def model_card(recipe: Recipe, run: Mapping[str, Any], quality: Mapping[str, Any]) -> str:
    """Markdown. `run` holds `pairs`, `kinds` (counts), `used`, `steps`, `loss`, `bytes`."""
    training = recipe.training
    settings = [
        f"- learning rate {training.learning_rate:g}, {training.warmup:.0%} warm-up, then linear decay",
        f"- {training.batch_queries} queries of 1 + {training.negatives} passages a batch, {training.epochs} epoch(s)",
        f"- pairs of at most {' or '.join(map(str, training.max_tokens))} tokens",
        f"- {run['steps']:,} steps, mean of the last losses {run['loss']:.3f}",
    ]
    rows = [f"| {mode} | {quality[mode]:.4f} | |" for mode in ("bm25", "dense", "hybrid")]
    rows += [
        f"| reranked, support {row['support']:g} | {row['ndcg10']:.4f} | {row['p_vs_best_single']:.4f} |"
        for row in quality["reranked"]
    ]
    rows.append(f"| best possible order of these candidates | {quality['ideal_order']:.4f} | |")
    return _TEMPLATE.format(
        name=recipe.name,
        size=f"{run['bytes'] / 1e6:.1f} MB",
        base=recipe.base,
        bias=training.cross_attention_bias,
        pairs=run["pairs"],
        mined=recipe.mining.negatives,
        negatives=training.negatives,
        kinds="\n".join(f"| {kind} | {run['kinds'].get(kind, 0):,} | {text} |" for kind, text in _KINDS.items()),
        settings="\n".join(settings),
        questions=quality["questions"],
        best_single=quality["best_single"],
        depth=recipe.evaluation.candidates,
        tokens=recipe.evaluation.passage_tokens,
        used=run["used"],
        kinds_used=", ".join(f"`{kind}`" for kind in training.kinds),
        hard=1 - training.keep,
        blend=recipe.evaluation.blend,
        rest=1 - recipe.evaluation.blend,
        rows="\n".join(rows),
        card=recipe.card.strip(),
    )
