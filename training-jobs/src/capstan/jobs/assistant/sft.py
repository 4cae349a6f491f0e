"""Supervised fine-tuning: a LoRA adapter on the instructions, by TRL, on the answers' tokens alone."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from capstan.jobs.assistant.base import answer, counter
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.order import training_order
from capstan.jobs.assistant.recipe import Recipe
from capstan.jobs.assistant.training import Point, Run, Timed, arguments, score_answers_only, train


class _Trainer(Timed, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, whose steps are timed."""


def fine_tune(
    recipe: Recipe, model: Any, tokenizer: Any, items: tuple[Sequence[Item], Sequence[Item]], run: Run
) -> tuple[Any, list[Point]] | None:
    """Train, or go on: the model with its adapter and the run's curve, or None when asked to stop.

    `items`: those to train on, and those whose loss is watched. Raises `AssistantError`.
    """
    plan, (training, validation) = recipe.sft, items
    lengths = [*map(counter(tokenizer), training)]
    order = training_order(lengths, batch=plan.batch, epochs=plan.epochs, seed=recipe.seed)
    held_out = sorted(validation, key=counter(tokenizer))
    score_answers_only()
    trainer = _Trainer(
        model=model,
        args=SFTConfig(
            **arguments(recipe, plan, run, len(order)),
            packing=False,
            completion_only_loss=True,
            eval_strategy="steps" if held_out else "no",
            eval_steps=plan.validate_every,
            prediction_loss_only=True,
        ),
        train_dataset=_rows([training[row] for row in order]),
        eval_dataset=_rows(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=lora(recipe),
    )
    points = train(trainer, recipe, run)
    return None if points is None else (trainer.model, points)


def lora(recipe: Recipe) -> LoraConfig:
    """The adapter's shape: all linear layers of the blocks."""
    plan = recipe.lora
    return LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _rows(items: Sequence[Item]) -> Dataset:
    """Prompt and completion, as TRL has them."""
    return Dataset.from_list(
        [{"prompt": list(item.messages), "completion": [answer(item.reference)]} for item in items]
    )
