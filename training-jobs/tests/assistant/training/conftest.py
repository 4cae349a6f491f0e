"""A random Llama of a few thousand weights with a chat template, items to train it on, and a recipe of seconds."""

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="requirements/assistant.txt is not installed")

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tiny_assistant import items
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from capstan.jobs.assistant.recipe import Recipe

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|system|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([f"{item.prompt} {item.reference}" for item in items()], trainer)
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    return directory


@pytest.fixture
def recipe(tiny: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "base": f"file:{tiny}",
            "precision": "fp32",
            "lora": {"rank": 4, "alpha": 8},
            "data": {"max_tokens": 96},
            "sft": {"rate": 5e-3, "epochs": 2, "batch": 6, "micro_batch": 3, "max_length": 96, "save_every": 3},
            "sampling": {"prompts": 12, "n": 4, "max_tokens": 16},
            "preferences": {"most": 50, "references": 0.5},
            "dpo": {
                "steady": {"rate": 2e-2, "epochs": 4, "batch": 4, "micro_batch": 2, "max_length": 96, "save_every": 3},
                "anchored": {"loss": ["sigmoid", "sft"], "weights": [1, 0.5], "batch": 4, "micro_batch": 2,
                             "max_length": 96},
            },
        }
    )  # fmt: skip
