"""The training loop. Stopped at any step and started again, it goes on to the same losses."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from capstan.jobs.compiling import can_compile
from capstan.jobs.metrics import TrainingMetrics
from capstan.jobs.pretrain import checkpoint
from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.model import Decoder, Shape, flops_per_token
from capstan.jobs.pretrain.nanogpt import NanoGpt
from capstan.jobs.pretrain.optim import make_optimizers, rate_at, set_rates
from capstan.jobs.pretrain.pack import Rows, inputs_and_targets
from capstan.jobs.pretrain.recipe import Recipe
from capstan.jobs.pretrain.world import World, accumulating, distribute

Point = dict[str, float]
"""One step of the curve: step, tokens, loss, rate, norm, seconds, tokens_s; val_loss where it was taken."""


@dataclass(slots=True)
class Run:
    """What a run depends on from outside; `stop` is asked after every step."""

    out: Path
    world: World
    say: Callable[[str], None] = print
    stop: Callable[[], bool] = lambda: False
    now: Callable[[], float] = time.monotonic
    metrics_port: int | None = None
    on_point: Callable[[Point], None] = lambda _: None
    curve: list[Point] = field(default_factory=list)


def shape_of(recipe: Recipe, vocabulary: int) -> Shape:
    """The model's size. The vocabulary is the tokenizer's own, which small data may leave below the recipe's."""
    return Shape(vocabulary, recipe.context, recipe.model.depth, recipe.model.tied)


def make_model(recipe: Recipe, shape: Shape) -> nn.Module:
    """An untrained model, the same for the same seed."""
    torch.manual_seed(recipe.seed)
    return Decoder(shape) if recipe.model.architecture == "capstan" else NanoGpt(shape)


def identity_of(recipe: Recipe, vocabulary: int, rows: Rows) -> str:
    """What a checkpoint belongs to."""
    return f"{recipe.identity}/{rows.about['rows']}/{vocabulary}"


class Stepper:
    """A model with its optimizers, distributed over the world, and the steps that train it on rows."""

    def __init__(self, recipe: Recipe, model: nn.Module, rows: Rows, world: World, say: Callable[[str], None]) -> None:
        self._plan, self._recipe, self._rows, self._world = recipe.training, recipe, rows, world
        self._per_step, self._per_micro = _batch(recipe, world)
        self.model = distribute(model.to(world.device), self._plan.parallel, world, say)
        if self._plan.compile and can_compile(say):
            self.model.compile()
        self.optimizers = make_optimizers(self.model, self._plan)

    def step(self, number: int) -> tuple[float, float]:
        """Step `number` (from 0): the mean loss in nats over its targets, and the gradient's norm before it is clipped.

        Every process knows all targets of the step, so the mean is over the whole batch, however it is divided.
        """
        set_rates(self.optimizers, rate_at(number, self._plan.steps, self._plan))
        rows = self._rows.at(number * self._per_step, self._per_step, self._recipe.seed)
        pairs = [inputs_and_targets(micro) for micro in torch.split(rows, self._per_micro)]
        count = sum(int((targets >= 0).sum()) for _, targets in pairs)
        total = torch.zeros((), device=self._world.device)
        for place, (inputs, targets) in enumerate(pairs, 1):
            with accumulating(self.model, last=place == len(pairs)):
                loss = self._nats(inputs, targets) / count
                (loss * self._world.size).backward()  # type: ignore[no-untyped-call]  # gradients are averaged
            total += loss.detach()
        norm: Any = nn.utils.clip_grad_norm_(self.model.parameters(), self._plan.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        full = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return self._world.sum(total).item(), float(full.item())

    @torch.no_grad()
    def validate(self, held_out: Rows) -> float:
        """Mean loss in nats over the targets of the first held-out rows."""
        rows = held_out.at(0, min(self._plan.validation_rows, len(held_out)), self._recipe.seed)
        total, count = torch.zeros((), device=self._world.device), 0
        for micro in torch.split(rows, self._per_micro):
            inputs, targets = inputs_and_targets(micro)
            count += int((targets >= 0).sum())
            total += self._nats(inputs, targets)
        return self._world.sum(total).item() / count

    def _nats(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Their sum over this process's rows; bfloat16 in matrix products where the recipe says so."""
        mine, wanted = self._world.share(inputs), self._world.share(targets)
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._plan.precision == "bf16"):
            losses: torch.Tensor = self.model(mine, wanted)
        return losses.sum()


def _batch(recipe: Recipe, world: World) -> tuple[int, int]:
    """Rows of a step, and of a micro-batch over all processes. Raises `PretrainError` if they do not divide."""
    per_step, per_micro = recipe.training.batch_tokens // recipe.context, recipe.training.micro_rows * world.size
    if per_step % per_micro or recipe.training.batch_tokens % recipe.context:
        raise PretrainError(
            f"training.batch_tokens ({recipe.training.batch_tokens}) must be a multiple of micro_rows x context x "
            f"processes ({recipe.training.micro_rows} x {recipe.context} x {world.size})"
        )
    return per_step, per_micro


def train(recipe: Recipe, vocabulary: int, data: tuple[Rows, Rows], run: Run) -> nn.Module | None:
    """Train, or go on from the checkpoint in `run.out`: the model, or None when stopped before the end.

    `data` is training and validation rows. Raises `PretrainError`: a checkpoint of another run, a batch that does not
    divide.
    """
    plan, world, (rows, held_out) = recipe.training, run.world, data
    shape = shape_of(recipe, vocabulary)
    model = make_model(recipe, shape)
    stepper = Stepper(recipe, model, rows, world, run.say)
    identity = identity_of(recipe, vocabulary, rows)
    path = run.out / checkpoint.CHECKPOINT
    done = 0
    if state := checkpoint.read(path, identity):
        checkpoint.restore(state, stepper.model, stepper.optimizers)
        done, run.curve[:] = state["step"], state["curve"]
        run.say(f"going on from step {done} of {plan.steps}")
    metrics = _metrics(recipe, model, shape, run, done, plan.steps)
    saved = run.now()
    while done < plan.steps:
        point = _point(stepper, done, recipe, run.now)
        done += 1
        if done % plan.validate_every == 0 or done == plan.steps:
            point["val_loss"] = stepper.validate(held_out)
            metrics.validation(point["val_loss"])
        run.curve.append(point)
        metrics.step(
            done,
            loss=point["loss"],
            tokens=plan.batch_tokens,
            learning_rate=point["rate"],
            gradient_norm=point["norm"],
        )
        run.on_point(point)
        stopping = world.any(run.stop())
        if stopping or done == plan.steps or run.now() - saved >= plan.checkpoint_s:
            about = {"identity": identity, "step": done, "curve": run.curve}
            checkpoint.save(path, stepper.model, stepper.optimizers, about, world)
            metrics.checkpoint()
            saved = run.now()
        if stopping and done < plan.steps:
            run.say(f"stopped after step {done} of {plan.steps}; the same command goes on from there")
            return None
    return model


def _point(stepper: Stepper, number: int, recipe: Recipe, now: Callable[[], float]) -> Point:
    """Do step `number` (from 0); its point of the curve."""
    plan, started = recipe.training, now()
    loss, norm = stepper.step(number)
    seconds = max(now() - started, 1e-9)
    rate = plan.muon_rate if plan.optimizer == "muon" else plan.adam_rate
    return {
        "step": number + 1,
        "tokens": (number + 1) * plan.batch_tokens,
        "loss": loss,
        "norm": norm,
        "rate": rate * rate_at(number, plan.steps, plan),
        "seconds": round(seconds, 3),
        "tokens_s": round(plan.batch_tokens / seconds),
    }


def _metrics(recipe: Recipe, model: nn.Module, shape: Shape, run: Run, done: int, steps: int) -> TrainingMetrics:
    """The run's Prometheus metrics, served by the first process."""
    metrics = TrainingMetrics(
        "pretrain",
        recipe.name,
        steps=steps,
        tokens_before=done * recipe.training.batch_tokens,
        flops_per_token=flops_per_token(model, shape),
        peak_flops=run.world.size * matmul_flops(run.world.device, recipe.training.precision),
        now=run.now,
    )
    metrics.serve(run.metrics_port if run.world.rank == 0 else None)
    return metrics


def matmul_flops(device: torch.device, precision: str, size: int = 1024, repeats: int = 8) -> float:
    """What this device reaches in a large matrix product, in FLOP a second: the peak that utilization refers to."""
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return 2 * size**3 * repeats / min(seconds() for _ in range(3))


def use_all_cores() -> None:
    """Threads for the cores that this process may use, fewer where several processes share them."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local))
