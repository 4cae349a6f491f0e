"""The base model as training reads it: the 16-bit weights that the worker serves, or those in NF4."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from capstan.common.checkpoint import prepare
from capstan.common.encoder import computes_bf16
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.recipe import Recipe

ADAPTER = "default"
"""PEFT's name for the adapter that is trained."""


def precision(recipe: Recipe) -> torch.dtype:
    """The number format of matrix products. Raises `AssistantError` for a recipe that needs a GPU where there is none.

    On a CPU without instructions for bfloat16 it is several times slower than 32 bits.
    """
    gpu = torch.cuda.is_available()
    if recipe.device == "cuda" and not gpu:
        raise AssistantError(f"the recipe {recipe.name} needs a GPU (device: cuda), and PyTorch sees none here")
    if recipe.precision == "auto":
        return torch.bfloat16 if gpu or computes_bf16() else torch.float32
    return torch.bfloat16 if recipe.precision == "bf16" else torch.float32


def read_tokenizer(checkpoint: Path, name: str) -> Any:
    """The tokenizer of a checkpoint. Raises `AssistantError` if it has no chat template."""
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    if not tokenizer.chat_template:
        raise AssistantError(f"base {name} has no chat template: name a model that was tuned to follow instructions")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def counter(tokenizer: Any) -> Callable[[Item], int]:
    """What counts the tokens of an item, prompt and answer as they are trained on."""
    return lambda item: len(chat_ids(tokenizer, [*item.messages, answer(item.reference)]))


def chat_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """Tokens of a chat in the model's template."""
    ids: list[int] = tokenizer.apply_chat_template(messages, return_dict=False)
    return ids


def answer(text: str) -> dict[str, str]:
    """The assistant's message."""
    return {"role": "assistant", "content": text}


def model_of(recipe: Recipe, cache: Path) -> Any:
    """The frozen base model in the recipe's number format. Raises `ModelError`, `AssistantError`."""
    dtype = precision(recipe)
    checkpoint = prepare(recipe.base, cache)
    if recipe.quantized:
        return _in_nf4(checkpoint, dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    return model.to(dtype)


def _in_nf4(checkpoint: Path, dtype: torch.dtype) -> Any:
    """Four bits a weight, computed in `dtype` (Dettmers et al. 2023, QLoRA); each process has it on its own GPU."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    device = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=dtype, quantization_config=config, device_map={"": device}
    )


def adapted(model: Any, adapter: Path, *, trainable: bool = False) -> Any:
    """A base model with an adapter on it."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter), adapter_name=ADAPTER, is_trainable=trainable)


def merging_base(checkpoint: Path) -> Any:
    """The base model in 32 bits, for an adapter to be added to."""
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
