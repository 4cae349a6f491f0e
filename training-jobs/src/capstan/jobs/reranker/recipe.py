"""The recipe: where the pairs come from, how negatives are mined, and how the model is trained."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from capstan.jobs.recipes import read_recipe
from capstan.jobs.reranker.errors import RerankerError

Kind = Literal["question", "heading", "title", "task", "cloze"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """A part of the corpus: documents whose source begins with `prefix`."""

    prefix: str
    product: str = Field(description="What people call it in a question.")
    queries: int = Field(ge=0, description="Most queries that are made from it.")


class Mining(_Strict):
    """How the passages that do not answer are found."""

    depth: int = Field(30, ge=5, le=100, description="Length of the BM25 and of the dense list.")
    negatives: int = Field(6, ge=1, le=50, description="Passages that are kept for each query.")
    margin: float = Field(
        0.1, ge=0, description="A passage whose cosine to the query is above the positive's by this is no negative."
    )


class Training(_Strict):
    """AdamW with warm-up and linear decay."""

    negatives: int = Field(6, ge=1, description="Negatives beside each positive.")
    batch_queries: int = Field(8, ge=1)
    epochs: int = Field(1, ge=1)
    max_tokens: tuple[int, ...] = Field(
        (64, 96, 128), min_length=1, description="Longest pair; each batch takes one of these, and passages are cut."
    )
    learning_rate: float = Field(1e-4, gt=0)
    warmup: float = Field(0.08, ge=0, lt=1, description="Share of the steps.")
    weight_decay: float = Field(0.01, ge=0)
    cross_attention_bias: float = Field(
        -2.0, le=0, description="Added to attention logits between query and passage: how far it is closed at first."
    )
    kinds: tuple[Kind, ...] = Field(("question", "heading", "title", "task"), description="Queries that are used.")
    queries: int = Field(5000, ge=1, description="Most queries that are used.")
    keep: float = Field(
        0.5, ge=0, le=1, description="Share of the untrained model's own opinion in the target (distillation)."
    )
    checkpoint_s: float = Field(120, gt=0, description="Seconds between checkpoints.")


class Evaluation(_Strict):
    """How an artifact is measured on the dev questions, and what was chosen on them."""

    candidates: int = Field(50, ge=1, le=100, description="Chunks of each list.")
    passage_tokens: int = Field(128, ge=16, description="Most tokens of a passage that are read.")
    support: tuple[float, ...] = Field(
        (0.0, 0.5, 1.0, 2.0),
        description="How much passages of one document support each other: the reranker's setting.",
    )
    blend: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the trained weights; the rest are the untrained ones (Wortsman et al. 2022).",
    )


class Recipe(_Strict):
    """One reranker."""

    name: str
    seed: int = 17
    base: str = Field(description="Model reference of the sentence encoder that it starts from.")
    sources: list[Source]
    mining: Mining = Mining()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    card: str = Field("", description="Markdown for the model card: limits, and what did not work.")

    @property
    def hash(self) -> str:
        """SHA-256 of what shapes the weights, whatever the file's layout and comments."""
        return hashlib.sha256(self.model_dump_json(exclude={"card", "evaluation"}).encode()).hexdigest()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises `RerankerError` that names the file and the key."""
    return read_recipe(path, Recipe, RerankerError)
