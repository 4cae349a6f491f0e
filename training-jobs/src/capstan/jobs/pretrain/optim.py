"""Muon for the blocks' matrices, AdamW for the rest, and their learning rates over a run."""

import math

import torch
from torch import nn

from capstan.jobs.pretrain.model import hidden_matrices
from capstan.jobs.pretrain.recipe import Training


def make_optimizers(model: nn.Module, plan: Training) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) and AdamW; with `adamw` AdamW alone. Each group keeps its rate as `full_lr`."""
    matrices = hidden_matrices(model) if plan.optimizer == "muon" else []
    taken = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    decayed = [p for p in rest if p.dim() > 1 and plan.optimizer == "adamw"]  # nanoGPT decays every matrix
    kept = [p for p in rest if id(p) not in {id(d) for d in decayed}]
    groups = [{"params": kept, "weight_decay": 0.0}]
    groups += [{"params": decayed, "weight_decay": plan.weight_decay}] if decayed else []
    adam = torch.optim.AdamW(groups, lr=plan.adam_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)
    optimizers: list[torch.optim.Optimizer] = [adam]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=plan.muon_rate, weight_decay=plan.weight_decay, momentum=0.95))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return optimizers


def rate_at(step: int, steps: int, plan: Training) -> float:
    """Share of the full learning rate at a step (from 0)."""
    warmup = max(1, math.ceil(plan.warmup * steps))
    if step < warmup:
        return (step + 1) / warmup
    if plan.schedule == "cosine":  # to a tenth, as nanoGPT
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    return min(1.0, (steps - step) / max(1, math.ceil(plan.decay * steps)))


def set_rates(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Set every group's rate to a share of its full one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * share
