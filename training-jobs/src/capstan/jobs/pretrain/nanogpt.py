"""What ours is compared with: nanoGPT's GPT-2 (github.com/karpathy/nanoGPT, model.py), at the same depth and width.

Learned positions, LayerNorm without bias, GELU, tied embeddings, weights of 0.02, residual projections scaled by depth.
"""

import torch
from torch import nn
from torch.nn import functional

from capstan.jobs.pretrain.model import HEAD, Shape, nats


class GptBlock(nn.Module):
    """Attention with one matrix for queries, keys and values; a layer four times as wide as the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)
        self.c_fc = nn.Linear(width, 4 * width, bias=False)
        self.c_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (rows, time, width) in and out."""
        rows, time, width = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).view(rows, time, 3, -1, HEAD).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(rows, time, width))
        out: torch.Tensor = x + self.c_out(functional.gelu(self.c_fc(self.ln_2(x))))
        return out


class NanoGpt(nn.Module):
    """GPT-2 as nanoGPT has it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.vocabulary, shape.width)
        self.wpe = nn.Embedding(shape.context, shape.width)
        self.layers = nn.ModuleList(GptBlock(shape) for _ in range(shape.depth))
        self.ln_f = nn.LayerNorm(shape.width, bias=False)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("c_proj.weight", "c_out.weight"))
                nn.init.normal_(parameter, std=0.02 * ((2 * shape.depth) ** -0.5 if last else 1.0))

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """As `Decoder.forward`."""
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.layers:
            x = block(x)
        logits: torch.Tensor = self.lm_head(self.ln_f(x)).float()
        return logits if targets is None else nats(logits, targets)
