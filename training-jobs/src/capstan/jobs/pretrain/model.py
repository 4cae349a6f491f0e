"""The decoder: what Qwen3 computes (Yang et al. 2025), small, so that vLLM serves it as it is.

Pre-norm blocks with RMSNorm, rotary positions (split halves, Su et al. 2021), queries and keys normalized per head
(Dehghani et al. 2023), SwiGLU (Shazeer 2020), no biases. Projections into the residual stream
begin at zero, and so does an untied head.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

HEAD = 64
ROPE_BASE = 10_000.0
NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a decoder; everything follows from depth, vocabulary and context."""

    vocabulary: int
    context: int
    depth: int
    tied: bool = False

    @property
    def heads(self) -> int:
        """As many as layers up to 4, then one more for every two layers."""
        return min(self.depth, self.depth // 2 + 2)

    @property
    def width(self) -> int:
        """Dimensions of the residual stream."""
        return HEAD * self.heads

    @property
    def hidden(self) -> int:
        """Width of the gated layer: 8/3 of the stream, in 64s, so that a block has 12 width² weights."""
        return -(-8 * self.width // (3 * 64)) * 64


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(shape.width, shape.width, bias=False) for _ in range(4)
        )
        self.q_norm, self.k_norm = (nn.RMSNorm(HEAD, NORM_EPS) for _ in range(2))

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Shapes: x (rows, time, width), cos and sin (time, HEAD)."""
        rows, time, width = x.shape
        q, k, v = (p(x).view(rows, time, -1, HEAD) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (rotate(norm(y).transpose(1, 2), cos, sin) for norm, y in ((self.q_norm, q), (self.k_norm, k)))
        y = functional.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True)
        mixed: torch.Tensor = self.o_proj(y.transpose(1, 2).reshape(rows, time, width))
        return mixed


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of (rows, heads, time, HEAD), in the type of x."""
    left, right = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-right, left), dim=-1) * sin).to(x.dtype)


class GatedLayer(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(shape.width, shape.hidden, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (rows, time, width) in and out."""
        y: torch.Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Block(nn.Module):
    """Attention, then the gated layer, each behind a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(shape.width, NORM_EPS) for _ in range(2))
        self.self_attn, self.mlp = Attention(shape), GatedLayer(shape)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Shape (rows, time, width) in and out."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        y: torch.Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return y


class Decoder(nn.Module):
    """Tokens to the logits of the next ones. Parameter names are those of Hugging Face's Qwen3."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.RMSNorm(shape.width, NORM_EPS)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        frequencies = ROPE_BASE ** -(torch.arange(0, HEAD, 2) / HEAD)
        angles = torch.outer(torch.arange(shape.context).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                embedding = 0.02 if shape.tied else 0.5  # a tied one is also a head, whose logits are to begin small
                nn.init.normal_(parameter, std=embedding if "embed" in name else parameter.shape[1] ** -0.5)
        if shape.tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (rows, time, vocabulary) in fp32; with targets the nats of each, (rows, time), 0 where it is -100."""
        time = tokens.shape[1]
        x: torch.Tensor = self.embed_tokens(tokens)
        for block in self.layers:
            x = block(x, self.cos[:time], self.sin[:time])  # type: ignore[index]
        logits: torch.Tensor = self.lm_head(self.norm(x)).float()
        return logits if targets is None else nats(logits, targets)


def nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each position, 0 where the target is -100."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights of the blocks that Muon is for."""
    return [
        parameter for name, parameter in model.named_parameters() if ".layers." in f".{name}" and parameter.dim() == 2
    ]


def multiplying(model: nn.Module, shape: Shape) -> int:
    """Weights that every token is multiplied with: the blocks and the head, not the table of embeddings."""
    return sum(p.numel() for p in hidden_matrices(model)) + shape.vocabulary * shape.width


def flops_per_token(model: nn.Module, shape: Shape) -> float:
    """Forward and backward: 6 for each weight that multiplies, and attention (Chowdhery et al. 2022, appendix B)."""
    return 6 * multiplying(model, shape) + 12 * shape.depth * shape.width * shape.context
