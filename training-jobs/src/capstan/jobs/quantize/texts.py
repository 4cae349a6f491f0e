"""What a model is calibrated on: the repository's documents, or an assistant's training prompts with their answers."""

import json
import random
from pathlib import Path
from typing import Any

from capstan.jobs.command import JobError


def of_documents(root: Path, number: int, tokens: int) -> list[str]:
    """Passages of the repository's documents, as many and each at least as long as asked for."""
    whole = "\n".join(path.read_text() for path in sorted(root.glob("docs/**/*.md")))
    length = 8 * tokens  # characters; more than enough, the tokenizer cuts
    return [whole[start : start + length] for start in range(0, len(whole) - length, len(whole) // number)][:number]


def of_items(path: Path, source: Path, number: int, seed: int = 17) -> list[str]:
    """Training items in the model's chat template, drawn at random. Raises `JobError`."""
    from transformers import AutoTokenizer

    try:
        items: list[dict[str, Any]] = [
            json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line
        ]
        chats = [[*item["messages"], {"role": "assistant", "content": item["reference"]}] for item in items]
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(f"{path} holds no items ({error}); give an assistant's data/train.jsonl") from None
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    some = random.Random(seed).sample(chats, min(number, len(chats)))  # noqa: S311
    return [str(tokenizer.apply_chat_template(chat, tokenize=False)) for chat in some]
