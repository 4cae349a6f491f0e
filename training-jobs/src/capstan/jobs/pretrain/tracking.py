"""How a person follows a run: a bar or lines, and Weights & Biases where asked for."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from capstan.jobs.pretrain.recipe import Recipe
from capstan.jobs.pretrain.train import Point

_LINE_EVERY_S = 15.0


@contextmanager
def follow(
    recipe: Recipe, out: Path, say: Callable[[str], None], *, wandb: bool, first: bool
) -> Iterator[Callable[[Point], None]]:
    """Yields what to call with each point of the curve. Only the first process shows anything."""
    if not first:
        yield lambda _: None
        return
    steps = recipe.training.steps
    with ExitStack() as stack:
        show = [_bar(stack, steps) if sys.stderr.isatty() else _lines(steps, say)]
        if wandb:
            show.append(_wandb(stack, recipe, out))

        def on_point(point: Point) -> None:
            for call in show:
                call(point)

        yield on_point


def _bar(stack: ExitStack, steps: int) -> Callable[[Point], None]:
    bar = stack.enter_context(tqdm(total=steps, unit="step", dynamic_ncols=True))

    def show(point: Point) -> None:
        bar.n = int(point["step"])
        bar.set_postfix(loss=f"{point['loss']:.3f}", tokens_s=point["tokens_s"], refresh=True)

    return show


def _lines(steps: int, say: Callable[[str], None]) -> Callable[[Point], None]:
    since = _LINE_EVERY_S

    def show(point: Point) -> None:
        nonlocal since
        since += point["seconds"]
        if since < _LINE_EVERY_S and "val_loss" not in point:
            return
        since = 0.0
        left = (steps - point["step"]) * point["seconds"] / 60
        held_out = f", held out {point['val_loss']:.3f}" if "val_loss" in point else ""
        speed = f"{point['tokens_s']:,.0f} tokens/s, {left:,.0f} min left"
        say(f"step {point['step']:.0f} of {steps}: loss {point['loss']:.3f}{held_out}, {speed}")

    return show


def _wandb(stack: ExitStack, recipe: Recipe, out: Path) -> Callable[[Point], None]:
    """A run that a resumed process goes on with. Offline unless WANDB_MODE says otherwise; `wandb sync` uploads it."""
    import wandb

    os.environ.setdefault("WANDB_MODE", "offline")
    run: Any = wandb.init(
        project="capstan-pretrain",
        id=f"{recipe.name}-{recipe.identity[:8]}",
        resume="allow",
        dir=out,
        config=recipe.model_dump(mode="json"),
        settings=wandb.Settings(silent=True),
    )
    stack.callback(run.finish)
    return lambda point: run.log(dict(point), step=int(point["step"]))
