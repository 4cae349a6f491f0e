"""The cross-encoder in PyTorch, and the optimizer's full-precision copy of it.

Query and passage are read together, but attention between them begins damped (`cross_attention_bias` is added to its
logits), and the score begins as the similarity of their vectors. So the untrained model ranks about as the sentence
encoder that it is made of does, and training only has to make that better; a new [CLS] head has to learn everything
from pairs (the model card has figures of both).

The weights compute in bf16, where the CPU can; AdamW works on fp32 copies (mixed precision with master weights;
Micikevicius et al. 2018). That is a quarter faster here than autocast, which converts every weight at each step.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import BertModel
from transformers.utils import logging as transformers_logging

from capstan.jobs.reranker.pairs import Batch
from capstan.jobs.reranker.recipe import Training

_SCALE = 10.0  # of each similarity at the start; sentence encoders are trained with cosines times 20


class PairModel(nn.Module):
    """Logits of pairs. What it computes is `capstan.common.encoder_graph.write_cross_encoder`'s graph."""

    def __init__(self, bert: BertModel, cross_attention_bias: float) -> None:
        super().__init__()
        self.bert = bert
        self.cross_attention_bias = cross_attention_bias
        self.similarity = nn.Linear(2, 1)
        self.cls = nn.Linear(bert.config.hidden_size, 1)
        with torch.no_grad():
            self.similarity.weight.fill_(_SCALE)
            for parameter in (self.similarity.bias, self.cls.weight, self.cls.bias):
                parameter.zero_()

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits of shape (queries, passages), fp32."""
        segments, mask = torch.from_numpy(batch.segments), torch.from_numpy(batch.mask).bool()
        other = segments[:, :, None] != segments[:, None, :]
        bias = other * self.cross_attention_bias
        bias = bias.masked_fill(~mask[:, None, :], -1e4)[:, None].to(self.similarity.weight.dtype)
        hidden = self.bert(
            input_ids=torch.from_numpy(batch.ids),
            position_ids=torch.from_numpy(batch.places),
            attention_mask=bias,
        ).last_hidden_state
        words = torch.from_numpy(batch.words)
        query, passage = mask & (segments == 0), mask & (segments == 1)
        maxsim = _maxsim(hidden, query & words, passage & words)
        cosine = functional.cosine_similarity(_mean(hidden, query), _mean(hidden, passage))
        logits = _linear(self.similarity, torch.stack([maxsim, cosine], dim=1)) + _linear(self.cls, hidden[:, 0])
        return logits.view(-1, batch.passages)

    def save(self, directory: Path) -> None:
        """Write config.json and model.safetensors, in fp32."""
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        weights = {f"bert.{name}": value for name, value in self.bert.state_dict().items()}
        weights |= {f"head.similarity.{name}": value for name, value in self.similarity.state_dict().items()}
        weights |= {f"head.cls.{name}": value for name, value in self.cls.state_dict().items()}
        save_file(
            {name: value.float().contiguous() for name, value in weights.items()}, directory / "model.safetensors"
        )
        config = {
            **self.bert.config.to_dict(),
            "architectures": ["CapstanCrossEncoder"],
            "cross_attention_bias": self.cross_attention_bias,
        }
        config.pop("_name_or_path", None)  # where it lay on this machine
        (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def _linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """In fp32: bf16 would round scores to steps of 0.06."""
    return functional.linear(x.float(), layer.weight.float(), layer.bias.float())


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of a mask, fp32, shape (pairs, hidden)."""
    weights = mask[:, :, None].float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)


def _maxsim(hidden: torch.Tensor, query: torch.Tensor, passage: torch.Tensor) -> torch.Tensor:
    """Mean over query words of the best cosine to a passage word, fp32, shape (pairs,)."""
    unit = functional.normalize(hidden, dim=-1)  # in the model's precision: the mean evens the rounding out
    width = int(query.any(dim=0).nonzero().max()) + 1
    cosines = (unit[:, :width] @ unit.transpose(1, 2)).float().masked_fill(~passage[:, None, :], -1.0)
    best = cosines.max(dim=2).values * query[:, :width]
    return best.sum(dim=1) / query.sum(dim=1)


def start_from(encoder: Path, training: Training, dtype: torch.dtype, seed: int) -> PairModel:
    """A cross-encoder made of a sentence encoder.

    Word embeddings stay as they are: half of all weights, and with as few pairs as these they would only learn the
    words of the training queries. Nothing is dropped out: one pass over the pairs does not overfit.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    bert = BertModel.from_pretrained(
        encoder,
        add_pooling_layer=False,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    bert.embeddings.word_embeddings.weight.requires_grad_(False)
    return PairModel(bert, training.cross_attention_bias).to(dtype).train()


class MasterAdamW:
    """AdamW on fp32 copies of a model's trained weights, with warm-up and linear decay."""

    def __init__(self, model: nn.Module, training: Training, steps: int) -> None:
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._masters = [p.detach().float().clone() for p in self._trained]
        decayed = [m for m in self._masters if m.dim() > 1]
        rest = [m for m in self._masters if m.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self._adam = torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)
        self._rate, self._steps = training.learning_rate, steps
        self._warmup = max(1, math.ceil(training.warmup * steps))

    def step(self, number: int) -> tuple[float, float]:
        """Apply the gradients of step `number` (from 0) and clear them; learning rate and gradient norm of it."""
        rate = self._rate * min((number + 1) / self._warmup, (self._steps - number) / (self._steps - self._warmup + 1))
        for group in self._adam.param_groups:
            group["lr"] = rate
        for master, parameter in zip(self._masters, self._trained, strict=True):
            master.grad = parameter.grad.float() if parameter.grad is not None else torch.zeros_like(master)
            parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self._masters, 1.0)
        self._adam.step()
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._trained, strict=True):
                parameter.copy_(master)
        return rate, norm.item()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"masters": self._masters, "adam": self._adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._adam.load_state_dict(state["adam"])
        with torch.no_grad():
            for master, parameter, saved in zip(self._masters, self._trained, state["masters"], strict=True):
                master.copy_(saved)
                parameter.copy_(saved)

    def full(self) -> Iterator[tuple[nn.Parameter, torch.Tensor]]:
        """Each trained weight with its full-precision copy."""
        yield from zip(self._trained, self._masters, strict=True)
