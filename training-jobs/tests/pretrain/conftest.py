"""A small corpus, its rows, and a recipe that trains in seconds."""

import random
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.pretrain.recipe import Recipe

WORDS = [
    "the",
    "open",
    "file",
    "descriptor",
    "refers",
    "to",
    "a",
    "socket",
    "that",
    "was",
    "closed",
    "by",
    "another",
    "process",
    "and",
    "cannot",
    "be",
    "read",
]


def sentence(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words)).capitalize() + "."


@pytest.fixture(scope="session")
def texts() -> list[str]:
    rng = random.Random(5)
    return ["# Page\n\n" + " ".join(sentence(rng) for _ in range(rng.randrange(1, 12))) + "\n" for _ in range(120)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Any:
    pytest.importorskip("tokenizers", reason="requirements/reranker.txt is not installed")
    from capstan.jobs.pretrain.tokenizer import train_tokenizer

    return train_tokenizer(texts, 320)


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "vocabulary": 320,
            "context": 32,
            "model": {"depth": 2},
            "training": {
                "tokens": 10 * 512,
                "batch_tokens": 512,
                "micro_rows": 4,
                "validation_rows": 8,
                "validate_every": 4,
                "precision": "fp32",
                "compile": False,
            },
        }
    )


@pytest.fixture(scope="session")
def rows_dir(texts: list[str], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.bin and validation.bin of rows of 32 tokens."""
    from capstan.jobs.pretrain.pack import pack

    directory = tmp_path_factory.mktemp("rows")
    pack(texts[:100], tokenizer, 32, directory / "train.bin")
    pack(texts[100:], tokenizer, 32, directory / "validation.bin")
    return directory
