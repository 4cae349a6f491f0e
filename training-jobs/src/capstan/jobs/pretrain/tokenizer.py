"""A byte-level BPE tokenizer (Radford et al. 2019), trained here and written as Hugging Face's tokenizer.json.

Any text survives the round trip: the alphabet is the 256 bytes. Digits come in groups of at most two, so that a small
vocabulary is not spent on numbers (as nanochat has it).
"""

import os
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TOKENIZER = "tokenizer.json"
BOUNDARY = "<|endoftext|>"
"""Begins every document, and so ends the one before."""
BOUNDARY_ID = 0
_SPLIT = (
    r"(?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of `vocabulary` tokens, the boundary and the 256 bytes among them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOUNDARY],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOUNDARY} $A", pair=f"{BOUNDARY} $A $B", special_tokens=[(BOUNDARY, BOUNDARY_ID)]
    )
    return tokenizer


def save(tokenizer: Tokenizer, path: Path) -> None:
    """Complete or absent."""
    part = path.with_suffix(".part")
    tokenizer.save(str(part))
    os.replace(part, path)


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """Compression: UTF-8 bytes of the texts by their tokens."""
    size = tokens = 0
    for text in texts:
        size += len(text.encode())
        tokens += len(tokenizer.encode(text, add_special_tokens=False).ids)
    return size / max(tokens, 1)
