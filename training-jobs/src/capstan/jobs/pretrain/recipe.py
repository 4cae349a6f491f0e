"""The recipe: what the text goes through, the tokenizer, the model's size, and how it is trained."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.recipes import read_recipe


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def hash(self) -> str:
        """SHA-256 of the values, whatever the file's layout and comments."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Data(_Strict):
    """Filters and splits. Quality rules are Gopher's (Rae et al. 2021, table A1), wider where there is code."""

    min_words: int = Field(20, ge=1)
    min_alphabetic_words: float = Field(0.5, ge=0, le=1, description="Share of words with a letter; Gopher: 0.8.")
    max_foreign_letters: float = Field(0.1, ge=0, le=1, description="Share of letters that are not ASCII.")
    max_duplicate_lines: float = Field(0.5, ge=0, le=1, description="Share of a document's lines; Gopher: 0.3.")
    validation: float = Field(0.02, gt=0, lt=0.5, description="Share of documents held out for the loss.")
    test: float = Field(0.05, gt=0, lt=0.5, description="Share of documents held out for the downstream tasks.")
    overlap_words: int = Field(13, ge=2, description="Length of the n-grams that count as seen in training.")
    max_overlap: float = Field(0.1, ge=0, le=1, description="Share of a held-out document's n-grams that may be seen.")
    task_items: int = Field(400, ge=1, description="Most items of each downstream task.")
    seed: int = 17


class Model(_Strict):
    """One dial: depth. Heads of 64 dimensions; `depth` of 2, 3, 4, 6, 12 has 2, 3, 4, 5, 8 of them."""

    depth: int = Field(ge=1)
    tied: bool = Field(False, description="Whether the head is the embedding.")
    architecture: Literal["capstan", "nanogpt"] = Field("capstan", description="nanogpt is what it is compared with.")


class Training(_Strict):
    """Muon and AdamW under warm-up, stable, decay; or AdamW and cosine as nanoGPT has them."""

    tokens: int = Field(ge=1, description="Tokens to train on: the positions that are read, padding and all.")
    batch_tokens: int = Field(8192, ge=1, description="Tokens of an optimizer step.")
    micro_rows: int = Field(8, ge=1, description="Rows that one process computes at a time.")
    optimizer: Literal["muon", "adamw"] = "muon"
    muon_rate: float = Field(0.02, gt=0)
    adam_rate: float = Field(0.01, gt=0, description="Of embeddings, head and norms; with adamw, of everything.")
    weight_decay: float = Field(0.1, ge=0)
    warmup: float = Field(0.02, ge=0, lt=1, description="Share of the steps.")
    decay: float = Field(0.4, gt=0, le=1, description="Share of the steps in which the rate falls linearly to 0.")
    schedule: Literal["wsd", "cosine"] = "wsd"
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16 is autocast; weights stay fp32.")
    compile: bool = True
    parallel: Literal["ddp", "fsdp"] = Field("ddp", description="With several processes: replicas, or FSDP2.")
    validation_rows: int = Field(64, ge=1, description="Held-out rows whose loss is taken while training.")
    validate_every: int = Field(50, ge=1, description="Steps between these.")
    checkpoint_s: float = Field(300, gt=0, description="Seconds between checkpoints.")

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return max(1, round(self.tokens / self.batch_tokens))


class Ladder(_Strict):
    """Sizes and lengths that the scaling law is fitted on."""

    depths: tuple[int, ...] = (2, 3, 4, 6)
    tokens: tuple[int, ...] = (250_000, 500_000, 1_000_000)


class Recipe(_Strict):
    """One model."""

    name: str
    seed: int = 17
    vocabulary: int = Field(16384, ge=258, le=65536)
    context: int = Field(512, ge=8, description="Tokens that a row holds.")
    data: Data = Data()
    model: Model
    training: Training
    ladder: Ladder = Ladder()
    baseline: str | None = Field(None, description="Model reference of a public model to measure beside ours.")
    card: str = Field("", description="Markdown for the model card: limits, and what did not work.")

    @property
    def identity(self) -> str:
        """SHA-256 of what shapes the weights."""
        kept = self.model_dump_json(exclude={"card", "ladder", "baseline", "name"})
        return hashlib.sha256(kept.encode()).hexdigest()

    def with_(self, *, model: dict[str, Any] | None = None, training: dict[str, Any] | None = None) -> "Recipe":
        """The same recipe with another model or training."""
        return self.model_copy(
            update={
                "model": self.model.model_copy(update=model or {}),
                "training": self.training.model_copy(update=training or {}),
            }
        )


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises `PretrainError` that names the file and the key."""
    return read_recipe(path, Recipe, PretrainError)
