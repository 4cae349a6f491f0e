"""Checkpoints: all that the next step depends on, complete or absent, the same for any number of processes."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.world import World

CHECKPOINT = "checkpoint.pt"
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


def save(
    path: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], state: dict[str, Any], world: World
) -> None:
    """Write model, optimizers, random state and `state`; the first process writes, all take part."""
    weights, moments = get_state_dict(model, optimizers, options=_FULL)
    if world.rank == 0:
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save({**state, "model": weights, "optimizers": moments, "rng": torch.get_rng_state()}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    world.barrier()


def read(path: Path, identity: str) -> dict[str, Any] | None:
    """What is in a checkpoint; None without one. Raises `PretrainError` if it is of another run."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    if state["identity"] != identity:
        raise PretrainError(f"{path} is of another recipe or other data; remove it, or name another --out")
    return state


def restore(state: dict[str, Any], model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Put a checkpoint's weights, moments and random state back."""
    set_state_dict(
        model, optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizers"], options=_FULL
    )
    torch.set_rng_state(state["rng"])
