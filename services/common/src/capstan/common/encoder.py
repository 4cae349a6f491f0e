"""A BERT-family text encoder on the CPU: int8 weights, ONNX Runtime, no PyTorch.

The weights of a model directory (`config.json`, `model.safetensors`, `tokenizer.json`) are quantized once
(`capstan.common.encoder_graph`), and the graph is cached under their hash. Texts are encoded one at a time: nothing is
padded, and a text's vectors do not depend on what else is being encoded. Parallelism is threads that each encode a
text: `Encoder.hidden` may be called from any number of them, and does not hold the interpreter lock.

Why and at what cost: docs/decisions/0002-embedding-on-cpu.md.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capstan.common.encoder_graph import Architecture, UnsupportedModel, write_encoder

__all__ = ["Architecture", "Encoder", "UnsupportedModel", "computes_bf16", "quantized"]

Floats = npt.NDArray[np.float32]

_FORMAT = 1  # goes into the cache key: raise it when the graph changes


class Encoder:
    """Texts to token ids, and token ids to vectors."""

    def __init__(self, model_dir: Path, cache_dir: Path, *, max_tokens: int) -> None:
        """Load (on first use: quantize) the encoder of `model_dir`. Raises `UnsupportedModel`.

        `max_tokens` bounds a text, special tokens included; what is longer is cut there.
        """
        import onnxruntime
        from tokenizers import Tokenizer

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads cost more than they win on short texts
        self.architecture = Architecture.read(model_dir)
        self.max_tokens = min(max_tokens, self.architecture.positions)
        self.first_token_pooling = _first_token_pooling(model_dir)
        self.tokenizer: Any = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(quantized(model_dir, cache_dir)), options, providers=["CPUExecutionProvider"]
        )

    @property
    def dimensions(self) -> int:
        """Size of a vector."""
        return self.architecture.hidden

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, at most `max_tokens` of them."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def hidden(self, ids: Sequence[int]) -> Floats:
        """Vectors of shape (len(ids), dimensions): one text's tokens in their context."""
        result: Floats = self._session.run(None, {"ids": np.asarray([ids], dtype=np.int32)})[0][0]
        return result

    def pooled(self, ids: Sequence[int]) -> Floats:
        """One vector of length 1 for a text: the mean of its tokens, or the first, as the model was trained."""
        hidden = self.hidden(ids)
        vector: Floats = hidden[0] if self.first_token_pooling else hidden.mean(axis=0)
        return vector / max(float(np.linalg.norm(vector)), 1e-12)


def computes_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has bf16 arithmetic (for models that run in PyTorch); emulated, it is slower than fp32."""
    if not cpuinfo.is_file():
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpuinfo.read_text().split()))


def _first_token_pooling(model_dir: Path) -> bool:
    config = model_dir / "1_Pooling" / "config.json"
    return config.is_file() and bool(json.loads(config.read_text()).get("pooling_mode_cls_token"))


def quantized(model_dir: Path, cache_dir: Path) -> Path:
    """The int8 graph of a model, made on first use; complete or absent, also with two processes at it."""
    target = cache_dir / "encoders" / f"{_fingerprint(model_dir)}.onnx"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(descriptor)
        try:
            write_encoder(model_dir, Path(scratch))
            os.replace(scratch, target)
        finally:
            Path(scratch).unlink(missing_ok=True)
    return target


def _fingerprint(model_dir: Path) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\n".encode() + (model_dir / "config.json").read_bytes())
    with (model_dir / "model.safetensors").open("rb") as weights:
        while block := weights.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]
