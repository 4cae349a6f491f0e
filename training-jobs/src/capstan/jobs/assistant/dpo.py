"""Direct preference optimization (Rafailov et al. 2023) by TRL: the SFT adapter goes on, held by what it was."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from capstan.jobs.assistant.base import answer, chat_ids
from capstan.jobs.assistant.order import training_order
from capstan.jobs.assistant.pairs import Pair
from capstan.jobs.assistant.recipe import Dpo, Recipe
from capstan.jobs.assistant.training import (
    Point,
    Run,
    Timed,
    arguments,
    first_process,
    score_answers_only,
    summary,
    train,
)

_LOGPS = ("ref_chosen_logps", "ref_rejected_logps")


class _Trainer(Timed, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer; it keeps what the reference model says for all variants, and logs the answers' lengths."""

    reference: Path

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Log-probabilities of the reference model: each pair's once, kept on disk."""
        known = json.loads(self.reference.read_text()) if self.reference.is_file() else {}
        self.accelerator.wait_for_everyone()  # all have looked before one writes
        first_of = {pair: row for row, pair in reversed([*enumerate(dataset["id"])])}
        missing = [row for pair, row in first_of.items() if pair not in known]
        if missing:
            computed = super()._precompute_ref_logps(dataset.select(sorted(missing)), name, batch_size)
            both = zip(computed[_LOGPS[0]], computed[_LOGPS[1]], strict=True)
            known |= {pair: [float(a), float(b)] for pair, (a, b) in zip(computed["id"], both, strict=True)}
            if first_process():
                part = self.reference.with_suffix(".part")
                part.write_text(json.dumps(known))
                os.replace(part, self.reference)
        for column, name in enumerate(_LOGPS):
            dataset = dataset.add_column(name, [known[pair][column] for pair in dataset["id"]])
        return dataset

    def compute_loss(self, model: Any, inputs: Any, *more: Any, **options: Any) -> Any:
        """TRL's, with the lengths of what is compared."""
        if self.model.training:
            for name, mask in zip(("chosen", "rejected"), inputs["completion_mask"].chunk(2), strict=True):
                self._metrics["train"][f"lengths/{name}"].append(mask.sum(1).float().mean().item())
        return super().compute_loss(model, inputs, *more, **options)


def optimize(
    recipe: Recipe, variant: Dpo, model: Any, tokenizer: Any, pairs: Sequence[Pair], reference: Path, run: Run
) -> tuple[Any, list[Point]] | None:
    """Train a variant, or go on: the model with its adapter and the run's curve, or None when asked to stop.

    `model` has the SFT adapter on it, to be trained. `reference`: where the log-probabilities of the SFT model are
    kept, for all variants on the same pairs. Raises `AssistantError`.
    """
    lengths = [_length(tokenizer, pair) for pair in pairs]
    order = training_order(lengths, batch=variant.batch, epochs=variant.epochs, seed=recipe.seed)
    reference.parent.mkdir(parents=True, exist_ok=True)
    _Trainer.reference = reference  # used while the trainer is made
    score_answers_only()
    trainer = _Trainer(
        model=model,
        args=DPOConfig(
            **arguments(recipe, variant, run, len(order)),
            beta=variant.beta,
            loss_type=list(variant.loss),
            loss_weights=list(variant.weights) if variant.weights else None,
            label_smoothing=variant.label_smoothing,
            precompute_ref_log_probs=True,
        ),
        train_dataset=Dataset.from_list([_row(pairs[row]) for row in order]),
        processing_class=tokenizer,
    )
    points = train(trainer, recipe, run)
    return None if points is None else (trainer.model, points)


def dpo_summary(variant: Dpo, points: list[Point]) -> dict[str, Any]:
    """What a run has to say of itself: `training.summary`, and what became of both answers over its last tenth."""
    steps = [point for point in points if "loss" in point]
    share = max(1, len(steps) // 10)

    def mean(name: str, some: list[Point]) -> float:
        return float(round(sum(point[name] for point in some) / len(some), 4))

    ends = {"first": steps[:share], "last": steps[-share:]}
    return {
        **summary(points),
        "beta": variant.beta,
        "loss_type": "+".join(variant.loss),
        "rate": variant.rate,
        "epochs": variant.epochs,
        "reward_accuracy": mean("rewards/accuracies", ends["last"]),
        "margin": mean("rewards/margins", ends["last"]),
        "logps": {
            f"{name}_{end}": mean(f"logps/{name}", some)
            for name in ("chosen", "rejected")
            for end, some in ends.items()
        },
        "lengths": {name: mean(f"lengths/{name}", steps) for name in ("chosen", "rejected")},
    }


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "prompt": list(pair.messages),
        "chosen": [answer(pair.chosen)],
        "rejected": [answer(pair.rejected)],
    }


def _length(tokenizer: Any, pair: Pair) -> int:
    """Tokens of the longer side."""
    return max(len(chat_ids(tokenizer, [*pair.messages, answer(text)])) for text in (pair.chosen, pair.rejected))
