"""One process or many: who computes which rows, and how gradients meet."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that torchrun started."""

    rank: int
    size: int
    device: torch.device

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def share(self, rows: torch.Tensor) -> torch.Tensor:
        """This process's rows of a micro-batch."""
        return rows[self.rank :: self.size].to(self.device)


ALONE = World(0, 1, torch.device("cpu"))


def join() -> World:
    """The world that torchrun describes in the environment; alone without it."""
    rank, size, local = (
        int(os.environ.get(n, d)) for n, d in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    device = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(rank, size, device)


def leave(world: World) -> None:
    """End what `join` began."""
    if world.size > 1:
        dist.destroy_process_group()


def distribute(model: nn.Module, parallel: str, world: World, say: Callable[[str], None]) -> nn.Module:
    """The model as all processes train it: FSDP2 (Zhao et al. 2023) shards it, DDP copies it.

    Where FSDP2 cannot shard (a PyTorch without it, a backend without its collectives), DDP does.
    """
    if world.size == 1:
        return model
    if parallel == "fsdp":
        try:
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(world.device.type, (world.size,))
        except (ImportError, RuntimeError) as error:
            say(f"FSDP2 does not run here ({error}); going on with DDP")
        else:
            for block in model.layers:  # type: ignore[union-attr]
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)  # in place
            return model
    return nn.parallel.DistributedDataParallel(model)


def accumulating(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Within it gradients stay in this process, unless this is the step's last micro-batch."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext() if last else model.no_sync()
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(last)  # type: ignore[operator]
    return contextlib.nullcontext()
