"""The embedder: an int8 ONNX encoder for BERT models, sentence-transformers for every other.

A chunk's dense vector is that of its *view*: title and heading path, then the beginning of its text,
cut at `view_tokens`. See docs/decisions/0002-embedding-on-cpu.md.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from capstan.common.encoder import Encoder, UnsupportedModel, computes_bf16
from capstan.common.models import ModelError
from capstan.retriever.store import Floats

log = logging.getLogger(__name__)

View = Callable[[str, Sequence[str], str], str]
"""Title, heading path and text of a chunk to what is embedded and indexed of it."""


class Embedder(Protocol):
    """Texts to vectors of length 1. `embed` may be called from several threads at once."""

    dimensions: int
    runtime: str

    def count_words(self, words: list[str]) -> list[int]:
        """Tokens of each word, special tokens left out."""

    def embed(self, text: str) -> Floats:
        """The vector of one text, shape (dimensions,)."""


class OnnxEmbedder:
    """BERT models, without PyTorch."""

    runtime = "onnxruntime int8"

    def __init__(self, model_dir: Path, cache_dir: Path, max_tokens: int) -> None:
        self._encoder = Encoder(model_dir, cache_dir, max_tokens=max_tokens)
        self.dimensions = self._encoder.dimensions
        self._max_chars = max_tokens * 12  # more characters than the tokens that are read can hold

    def count_words(self, words: list[str]) -> list[int]:
        """Tokens of each word."""
        encodings = self._encoder.tokenizer.encode_batch_fast(words, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    def embed(self, text: str) -> Floats:
        """Tokenize, encode, pool."""
        return self._encoder.pooled(self._encoder.tokenize([text[: self._max_chars]])[0])


class TorchEmbedder:
    """Any model of sentence-transformers, in bf16 where the CPU computes in it."""

    def __init__(self, model_dir: Path, max_tokens: int) -> None:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ModelError(f"{model_dir} is not a BERT model and needs requirements-torch.txt ({error})") from error

        dtype = "bfloat16" if computes_bf16() else "float32"
        torch.set_num_threads(1)  # parallelism is one text per thread
        self._model = SentenceTransformer(str(model_dir), device="cpu", model_kwargs={"dtype": dtype})
        self._model.max_seq_length = min(max_tokens, self._model.max_seq_length or max_tokens)
        self.dimensions: int = len(self._model.encode("dimensions"))
        self.runtime = f"sentence-transformers {dtype}"

    def count_words(self, words: list[str]) -> list[int]:
        """Tokens of each word."""
        return [len(ids) for ids in self._model.tokenizer(words, add_special_tokens=False)["input_ids"]]

    def embed(self, text: str) -> Floats:
        """One text at a time."""
        vector = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vector, dtype=np.float32)


def load_embedder(model_dir: Path, cache_dir: Path, max_tokens: int) -> Embedder:
    """The fastest embedder for the model in `model_dir`."""
    try:
        return OnnxEmbedder(model_dir, cache_dir, max_tokens)
    except UnsupportedModel as reason:
        log.info("loading the embedder with sentence-transformers", extra={"reason": str(reason)})
        return TorchEmbedder(model_dir, max_tokens)


def view(title: str, heading: Sequence[str], text: str) -> str:
    """What is embedded and indexed for a chunk: where it stands, then its text."""
    path = [title, *heading] if not heading or heading[0] != title else list(heading)
    return " > ".join(filter(None, path)) + "\n" + text


def view_of(heading_path: bool) -> View:
    """The view with or without title and heading path."""
    return view if heading_path else lambda title, heading, text: text
