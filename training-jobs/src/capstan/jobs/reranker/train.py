"""The training loop: listwise softmax cross-entropy over a positive and its negatives, resumable.

A mined "negative" may well answer the query, and the sentence encoder that training starts from has read far more
questions than the corpus can make. So the target is a mixture: the positive, and what the untrained model thinks.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from capstan.common.encoder import computes_bf16
from capstan.jobs.metrics import TrainingMetrics
from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.model import MasterAdamW, PairModel, start_from
from capstan.jobs.reranker.pairs import Batch, Group, batches, count_batches
from capstan.jobs.reranker.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
MODEL = "model"
START = "start"
"""The untrained model."""
_SAY_EVERY_S = 10.0


@dataclass(slots=True)
class Run:
    """What a run depends on from outside; `stop` is asked after every step."""

    out: Path
    say: Callable[[str], None] = print
    stop: Callable[[], bool] = lambda: False
    now: Callable[[], float] = time.monotonic
    metrics_port: int | None = None
    losses: list[float] = field(default_factory=list)


def train(encoder: Path, groups: list[Group], recipe: Recipe, special: tuple[int, int], run: Run) -> bool:
    """Train, or go on from the checkpoint in `run.out`; True when done, False when stopped before the end.

    The finished model is `run.out`/model, in fp32. Raises `RerankerError` if the checkpoint is of other data.
    """
    plan = recipe.training
    steps = count_batches(len(groups), plan.batch_queries, plan.epochs)
    identity = f"{recipe.hash}/{len(groups)}"
    dtype = torch.bfloat16 if computes_bf16() else torch.float32
    model, teacher = (start_from(encoder, plan, dtype, recipe.seed) for _ in range(2))
    teacher.requires_grad_(False)
    teacher.save(run.out / START)
    optimizer = MasterAdamW(model, plan, steps)
    first = _restore(run.out / CHECKPOINT, identity, optimizer, run)
    todo = batches(
        groups,
        *special,
        size=plan.batch_queries,
        limits=plan.max_tokens,
        epochs=plan.epochs,
        seed=recipe.seed,
    )
    clock = _Clock(run, first, steps)
    metrics = TrainingMetrics("reranker", recipe.name, steps=steps, now=run.now)
    metrics.serve(run.metrics_port)
    saved = run.now()
    for number, batch in enumerate(islice(todo, first, None), first):
        logits: torch.Tensor = model(batch)
        loss = functional.cross_entropy(logits, _target(teacher, batch, plan.keep))
        loss.backward()  # type: ignore[no-untyped-call]
        rate, norm = optimizer.step(number)
        run.losses.append(loss.item())
        clock.line(number + 1, batch.ids.size)
        metrics.step(number + 1, loss=run.losses[-1], tokens=batch.ids.size, learning_rate=rate, gradient_norm=norm)
        stopping = run.stop()
        if stopping or run.now() - saved >= plan.checkpoint_s:
            _save(run.out / CHECKPOINT, identity, number + 1, optimizer, run.losses)
            metrics.checkpoint()
            saved = run.now()
        if stopping:
            run.say(f"stopped after step {number + 1} of {steps}; the same command goes on from there")
            return False
    for parameter, master in optimizer.full():
        parameter.data = master
    model.float().save(run.out / MODEL)
    _save(run.out / CHECKPOINT, identity, steps, optimizer, run.losses)
    return True


def _target(teacher: PairModel, batch: Batch, keep: float) -> torch.Tensor:
    """Probabilities of shape (queries, passages)."""
    target = torch.zeros(len(batch.ids) // batch.passages, batch.passages)
    if keep > 0:
        with torch.no_grad():
            target += keep * functional.softmax(teacher(batch), dim=1)
    target[:, 0] += 1 - keep
    return target


def losses_of(checkpoint: Path) -> list[float]:
    """The losses of all steps so far. Raises `RerankerError`."""
    if not checkpoint.is_file():
        raise RerankerError(f"{checkpoint} is missing; run train first")
    losses: list[float] = torch.load(checkpoint, weights_only=True)["losses"]
    return losses


def _save(path: Path, identity: str, step: int, optimizer: MasterAdamW, losses: list[float]) -> None:
    """Complete or absent, whenever the process ends."""
    part = path.with_suffix(".part")
    torch.save({"identity": identity, "step": step, "optimizer": optimizer.state(), "losses": losses}, part)
    os.replace(part, path)


def _restore(path: Path, identity: str, optimizer: MasterAdamW, run: Run) -> int:
    """The step to begin with."""
    if not path.is_file():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise RerankerError(f"{path} is of another recipe or other pairs; remove it, or name another --out")
    optimizer.restore(state["optimizer"])
    run.losses[:] = state["losses"]
    run.say(f"going on from step {state['step']}")
    return int(state["step"])


class _Clock:
    """Says every few seconds how far the run is and how long it will take."""

    def __init__(self, run: Run, first: int, steps: int) -> None:
        self._run, self._first, self._steps = run, first, steps
        self._started = self._said = run.now()
        self._tokens = 0

    def line(self, done: int, tokens: int) -> None:
        self._tokens += tokens
        now = self._run.now()
        if now - self._said < _SAY_EVERY_S and done < self._steps:
            return
        self._said = now
        seconds = max(now - self._started, 1e-9)
        left = seconds / (done - self._first) * (self._steps - done)
        recent = self._run.losses[-50:]
        loss = sum(recent) / len(recent)
        speed = f"{self._tokens / seconds:,.0f} tokens/s"
        self._run.say(f"train: step {done} of {self._steps}, loss {loss:.3f}, {speed}, {left / 60:.0f} min left")
