"""How a passage is scored: by a cross-encoder (int8 or PyTorch), or by late interaction over a sentence encoder."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from capstan.common.cross_encoder import GRAPH
from capstan.common.encoder import Encoder, UnsupportedModel, computes_bf16
from capstan.common.models import ModelError
from capstan.reranker.onnx_scorer import OnnxCrossEncoder
from capstan.reranker.scores import Scores

Matrix = npt.NDArray[np.float16]


class Scorer(Protocol):
    """Scores passages; called from worker threads, several at once."""

    name: str
    method: str
    scale: str
    runtime: str

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        """Higher is more relevant."""


class MaxSim:
    """Late interaction (ColBERT; Khattab and Zaharia 2020) over the token vectors of a sentence encoder.

    Each query token finds its most similar passage token; the score is the mean of those cosines. The
    encoder was trained for whole sentences and not for this, so it ranks less well than a cross-encoder.
    A passage's token vectors do not depend on the query and are remembered.
    """

    name = "maxsim"
    method = "late interaction: mean over query tokens of the best cosine to a passage token"
    scale = "0..1: a mean cosine, negative ones as 0"
    runtime = "onnxruntime int8"

    def __init__(self, model_dir: Path, cache_dir: Path, *, passage_tokens: int, threads: int, remember: int) -> None:
        self._encoder = Encoder(model_dir, cache_dir, max_tokens=passage_tokens)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="score")
        self._remembered = _Remembered(remember)

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        """Encode what is not remembered, longest first so that the threads end together, and compare."""
        tokenized = self._encoder.tokenize([query, *passages])
        wanted = self._vectors(tokenized[0]).T.astype(np.float32)
        keys = [hashlib.sha256(np.asarray(ids, dtype=np.int32).tobytes()).digest() for ids in tokenized[1:]]
        known = {key: vectors for key in keys if (vectors := self._remembered.get(key)) is not None}
        missing = {key: ids for key, ids in zip(keys, tokenized[1:], strict=True) if key not in known}
        longest_first = sorted(missing, key=lambda key: -len(missing[key]))
        for key, vectors in zip(
            longest_first, self._threads.map(lambda key: self._vectors(missing[key]), longest_first), strict=True
        ):
            known[key] = vectors
            self._remembered.put(key, vectors)
        values = [max(0.0, float((known[key].astype(np.float32) @ wanted).max(axis=0).mean())) for key in keys]
        read = len(tokenized[0]) + sum(map(len, missing.values()))
        return Scores(values, read, cached=len(keys) - sum(key in missing for key in keys))

    def _vectors(self, ids: Sequence[int]) -> Matrix:
        """Token vectors of length 1, shape (tokens, dimensions), without the two special tokens if others are left."""
        hidden = self._encoder.hidden(ids)
        hidden = hidden[1:-1] if len(ids) > 2 else hidden
        vectors: Matrix = (hidden / np.linalg.norm(hidden, axis=1, keepdims=True)).astype(np.float16)
        return vectors


class _Remembered:
    """The least recently used go first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[bytes, Matrix] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Matrix | None:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: bytes, vectors: Matrix) -> None:
        with self._lock:
            self._items[key] = vectors
            while len(self._items) > self._size:
                self._items.popitem(last=False)


class CrossEncoderScorer:
    """Any sentence-transformers CrossEncoder with one output, in bf16 where the CPU computes in it."""

    name = "cross-encoder"
    method = "query and passage read together by a sequence-classification model"
    scale = "0..1, the sigmoid of the model's output"

    def __init__(self, model_dir: Path, *, passage_tokens: int, threads: int) -> None:
        try:
            import torch
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            reason = f"{model_dir} is a cross-encoder in PyTorch's format and needs requirements-torch.txt ({error})"
            raise ModelError(f"{reason}; or name an int8 artifact of the reranker job, which needs none") from error

        dtype = "bfloat16" if computes_bf16() else "float32"
        torch.set_num_threads(threads)
        self._sigmoid = torch.nn.Sigmoid()
        self._model: Any = CrossEncoder(str(model_dir), device="cpu", model_kwargs={"dtype": dtype})
        if self._model.num_labels != 1:
            raise ModelError(f"{model_dir} has {self._model.num_labels} outputs; a reranker has one")
        self._model.max_length = min(passage_tokens + 64, self._model.max_length or passage_tokens + 64)
        self._lock = threading.Lock()
        self.runtime = f"sentence-transformers {dtype}"

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        """Pairs in batches sorted by length; one request at a time, on all threads."""
        pairs = [(query, passage) for passage in passages]
        with self._lock:
            values = self._model.predict(pairs, activation_fn=self._sigmoid, batch_size=16, show_progress_bar=False)
            read = self._model.tokenizer(pairs, truncation=True, max_length=self._model.max_length)["input_ids"]
        return Scores([float(value) for value in values], sum(map(len, read)))


def load_scorer(model_dir: Path, cache_dir: Path, *, passage_tokens: int, threads: int, remember: int) -> Scorer:
    """The scorer for what the directory holds. Raises `ModelError` if it holds none that can be run."""
    try:
        config = json.loads((model_dir / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{model_dir} has no readable config.json") from error
    if (model_dir / GRAPH).is_file():
        return OnnxCrossEncoder(model_dir, passage_tokens=passage_tokens, threads=threads)
    if any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
        return CrossEncoderScorer(model_dir, passage_tokens=passage_tokens, threads=threads)
    try:
        return MaxSim(model_dir, cache_dir, passage_tokens=passage_tokens, threads=threads, remember=remember)
    except UnsupportedModel as reason:
        raise ModelError(f"{reason}; a reranker needs a cross-encoder or a BERT sentence encoder") from reason
