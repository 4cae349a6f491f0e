"""What SFT and DPO share: TRL's trainer made resumable to the same losses, watched, and stopped by a signal."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from transformers import PrinterCallback, TrainerCallback

from capstan.jobs.assistant.base import precision
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.recipe import Optimization, Recipe
from capstan.jobs.compiling import can_compile
from capstan.jobs.metrics import TrainingMetrics

RUN = "run.json"
_LINE_EVERY_S = 15.0
_STATE, _COMPLETE = "trainer_state.json", "complete"
Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run depends on from outside; `stop` is asked after every step."""

    job: str
    out: Path
    identity: str
    say: Callable[[str], None] = print
    stop: Callable[[], bool] = lambda: False
    now: Callable[[], float] = time.monotonic
    metrics_port: int | None = None
    wandb: bool = False

    @property
    def checkpoints(self) -> Path:
        """The checkpoints of exactly this recipe and data."""
        return self.out / self.identity[:12]


def first_process() -> bool:
    """Whether this is the process that writes and speaks; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


def arguments(recipe: Recipe, plan: Optimization, run: Run, rows: int) -> dict[str, Any]:
    """The trainer's arguments that SFT and DPO share, for `rows` rows in all. Raises `AssistantError`."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if plan.batch % (plan.micro_batch * processes):
        raise AssistantError(
            f"batch ({plan.batch}) must be a multiple of micro_batch x processes ({plan.micro_batch} x {processes})"
        )
    steps = -(-rows // plan.batch)
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(run.checkpoints),
        "per_device_train_batch_size": plan.micro_batch,
        "per_device_eval_batch_size": plan.micro_batch,
        "gradient_accumulation_steps": plan.batch // (plan.micro_batch * processes),
        "num_train_epochs": 1,  # the rows are those of all epochs
        "train_sampling_strategy": "sequential",
        "learning_rate": plan.rate,
        "lr_scheduler_type": plan.schedule,
        "warmup_steps": round(plan.warmup * steps),
        "weight_decay": plan.weight_decay,
        "max_grad_norm": plan.clip,
        "max_length": plan.max_length,
        "activation_checkpointing": plan.gradient_checkpointing,
        "bf16": precision(recipe) == torch.bfloat16,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "seed": recipe.seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": plan.save_every,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "report_to": ["wandb"] if run.wandb else [],
        "run_name": f"{recipe.name}-{run.job}",
    }


class Watch(TrainerCallback):
    """Feeds metrics and progress lines, and ends the run when it is asked to stop, with a checkpoint."""

    def __init__(self, recipe: Recipe, run: Run, tokens_before: int) -> None:
        self._name, self._run, self._tokens = recipe.name, run, tokens_before
        self._first = first_process()
        self._said = -_LINE_EVERY_S
        self._metrics: TrainingMetrics | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Serve the metrics."""
        if not self._first:
            return
        name = f"{self._name}-{self._run.out.name}" if self._run.job == "dpo" else self._name
        self._metrics = TrainingMetrics(self._run.job, name, steps=state.max_steps, tokens_before=self._tokens)
        self._metrics.serve(self._run.metrics_port)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Free the port for the run that comes next."""
        if self._metrics:
            self._metrics.close()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and end where a signal has come to any process."""
        if state.global_step < state.max_steps and _any_process(self._run.stop()):
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as complete: a killed process leaves half of one."""
        if self._first:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()
        if self._metrics:
            self._metrics.checkpoint()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """A step, or a validation."""
        if not (self._metrics and logs):
            return
        if "eval_loss" in logs:
            self._metrics.validation(logs["eval_loss"])
            self._run.say(f"{self._run.job}: step {state.global_step}: loss on held-out items {logs['eval_loss']:.4f}")
        if "loss" in logs:
            tokens = int(logs["num_tokens"])
            self._metrics.step(
                state.global_step,
                loss=logs["loss"],
                tokens=tokens - self._tokens,
                learning_rate=logs["learning_rate"],
                gradient_norm=logs["grad_norm"],
            )
            self._say_sometimes(state, logs, tokens - self._tokens)
            self._tokens = tokens

    def _say_sometimes(self, state: Any, logs: dict[str, Any], tokens: int) -> None:
        now = self._run.now()
        if now - self._said < _LINE_EVERY_S and state.global_step < state.max_steps:
            return
        self._said = now
        margin = f", margin {logs['rewards/margins']:.3f}" if "rewards/margins" in logs else ""
        minutes = (state.max_steps - state.global_step) * logs["seconds"] / 60
        speed = f"{tokens / max(logs['seconds'], 1e-9):,.0f} tokens/s, {minutes:,.0f} min left"
        where = f"step {state.global_step} of {state.max_steps}"
        self._run.say(f"{self._run.job}: {where}: loss {logs['loss']:.4f}{margin}, {speed}")


class Timed:
    """For trainers: each step's log says how long it took. A base class before TRL's own."""

    now: Callable[[], float] = time.monotonic
    since: float | None = None

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add the seconds since the step before."""
        if "loss" in logs:
            now = self.now()
            logs["seconds"] = round(now - (self.since if self.since is not None else now), 4)
            self.since = now
        super().log(logs, start_time)  # type: ignore[misc]


def train(trainer: Any, recipe: Recipe, run: Run) -> list[Point] | None:
    """Train to the end, or go on from the last checkpoint: the points of the curve, or None when asked to stop."""
    last = last_checkpoint(run.checkpoints)
    tokens = 0
    if last is not None:
        history = json.loads((last / _STATE).read_text())["log_history"]
        tokens = max((int(point["num_tokens"]) for point in history if "num_tokens" in point), default=0)
        trainer._total_train_tokens = tokens  # TRL counts from 0 again
        run.say(f"{run.job}: going on from {last.name.replace('-', ' ')}")
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch(recipe, run, tokens))
    trainer.now, trainer.since = run.now, run.now()
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # beside a quantized base TRL has it in bfloat16, which rounds small steps away
            parameter.data = parameter.data.float()
    if recipe.compile and can_compile(run.say):
        _compile_blocks(trainer.model)
    with _wandb(recipe, run):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    state = trainer.state
    if state.global_step < state.max_steps:
        run.say(f"{run.job}: stopped after step {state.global_step} of {state.max_steps}; the same command goes on")
        return None
    return list(state.log_history)


def last_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint; newer halves of one are removed."""
    by_step = {int(path.name.split("-")[1]): path for path in directory.glob("checkpoint-*")}
    for step in sorted(by_step, reverse=True):
        if (by_step[step] / _COMPLETE).exists():
            return by_step[step]
        if first_process():
            shutil.rmtree(by_step[step])
    return None


def summary(points: list[Point]) -> dict[str, Any]:
    """What a run has to say of itself: steps, tokens, seconds, and the loss of its last tenth."""
    steps = [point for point in points if "loss" in point]
    tail = steps[-max(1, len(steps) // 10) :]
    held_out = [point["eval_loss"] for point in points if "eval_loss" in point]
    return {
        "steps": len(steps),
        "tokens": int(steps[-1]["num_tokens"]),
        "seconds": round(sum(point["seconds"] for point in steps)),
        "loss": round(sum(point["loss"] for point in tail) / len(tail), 4),
        **({"validation_loss": round(held_out[-1], 4)} if held_out else {}),
    }


def score_answers_only() -> None:
    """Let TRL project only the answers' tokens onto the vocabulary on a CPU too: half of the work where they are few.

    It does so on GPUs, and elsewhere keeps shapes constant for compilers, which we do not use.
    """
    trl.trainer.utils._use_triton = lambda _: True


def _compile_blocks(model: Any) -> None:
    """Compile each block in place, for any length: its many small operations become few."""
    for block in model.get_base_model().model.layers:
        block.compile(dynamic=True)


def _any_process(stop: bool) -> bool:
    if not torch.distributed.is_initialized():
        return stop
    device = "cuda" if torch.cuda.is_available() else "cpu"
    flag = torch.tensor(int(stop), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


@contextmanager
def _wandb(recipe: Recipe, run: Run) -> Iterator[None]:
    """A run that a resumed process goes on with. Offline unless WANDB_MODE says otherwise; `wandb sync` uploads it."""
    if not run.wandb:
        yield
        return
    import wandb

    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ["WANDB_PROJECT"], os.environ["WANDB_DIR"] = "capstan-assistant", str(run.out)
    os.environ["WANDB_RUN_ID"], os.environ["WANDB_RESUME"] = f"{recipe.name}-{run.job}-{run.identity[:8]}", "allow"
    try:
        yield
    finally:
        wandb.finish()
