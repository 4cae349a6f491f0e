"""A BERT-family text encoder on the CPU: int8 weights, ONNX Runtime, no PyTorch.

The weights of a model directory (`config.json`, `model.safetensors`, `tokenizer.json`) are quantized
once, per output channel and symmetrically to 7 bits, so that AVX2's 16-bit sums cannot saturate; the
activations are quantized to 8 bits while it runs (ONNX Runtime's DynamicQuantizeMatMul). The graph is
cached under the weights' hash. Texts are encoded one at a time: nothing is padded, and a text's
vectors do not depend on what else is being encoded. Parallelism is threads that each encode a text:
`Encoder.hidden` may be called from any number of them, and does not hold the interpreter lock.

Why and at what cost: docs/decisions/0002-embedding-on-cpu.md.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

Floats = npt.NDArray[np.float32]

_FORMAT = 1  # goes into the cache key: raise it when the graph changes
_WEIGHT_RANGE = 64  # 255 * 64 * 2 < 2**15
_MICROSOFT = "com.microsoft"


class UnsupportedModel(Exception):
    """The directory holds no encoder that this module can run; the message says why."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What of a model's config.json shapes the computation."""

    layers: int
    heads: int
    hidden: int
    positions: int
    epsilon: float

    @classmethod
    def read(cls, model_dir: Path) -> "Architecture":
        """Read it from a model directory. Raises `UnsupportedModel`."""
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (model_dir / name).is_file():
                raise UnsupportedModel(f"{model_dir} has no {name}")
        config = json.loads((model_dir / "config.json").read_text())
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            kind = config.get("model_type")
            raise UnsupportedModel(f"{model_dir} is a {kind!r} model; only BERT with GELU is run here")
        return cls(
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["hidden_size"],
            config["max_position_embeddings"],
            config["layer_norm_eps"],
        )


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
            _Graph(model_dir).save(scratch)
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


class _Graph:
    """Writes the ONNX graph of a BERT encoder, layer by layer."""

    def __init__(self, model_dir: Path) -> None:
        from safetensors.numpy import load_file

        self._architecture = Architecture.read(model_dir)
        self._weights = {k.removeprefix("bert."): v for k, v in load_file(model_dir / "model.safetensors").items()}
        self._constants: list[TensorProto] = []
        self._nodes: list[NodeProto] = []

    def save(self, path: str) -> None:
        """Build the graph and write it to `path`."""
        import onnx
        from onnx import helper

        output = self._embed("ids")
        for layer in range(self._architecture.layers):
            output = self._layer(output, f"encoder.layer.{layer}.")
        float_, int32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [helper.make_tensor_value_info("ids", int32, ["texts", "tokens"])],
            [helper.make_tensor_value_info(output, float_, ["texts", "tokens", self._architecture.hidden])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_MICROSOFT, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)

    def _embed(self, ids: str) -> str:
        positions = self._weights["embeddings.position_embeddings.weight"]
        positions = positions + self._weights["embeddings.token_type_embeddings.weight"][0]  # always segment 0
        words = self._constant("words", self._weights["embeddings.word_embeddings.weight"])
        scale, shift = self._affine("embeddings.LayerNorm")
        inputs = [ids, "", words, self._constant("positions", positions), "", scale, shift]
        self._node("EmbedLayerNormalization", inputs, ["embedded", "mask"], epsilon=self._architecture.epsilon)
        return "embedded"

    def _layer(self, x: str, name: str) -> str:
        attended = self._linear(self._attention(x, name), f"{name}attention.output.dense")
        x = self._norm(attended, x, f"{name}attention.output.LayerNorm")
        wide = self._linear(x, f"{name}intermediate.dense", bias=False)
        bias = self._constant(f"{name}wide.bias", self._weights[f"{name}intermediate.dense.bias"])
        active = self._node("BiasGelu", [wide, bias], [f"{name}gelu"])
        return self._norm(self._linear(active, f"{name}output.dense"), x, f"{name}output.LayerNorm")

    def _attention(self, x: str, name: str) -> str:
        roles = ("query", "key", "value")
        for kind in ("weight", "bias"):
            parts = [self._weights[f"{name}attention.self.{role}.{kind}"] for role in roles]
            self._weights[f"{name}qkv.{kind}"] = np.concatenate(parts)
        projected = self._linear(x, f"{name}qkv")
        sizes = self._constant(f"{name}sizes", np.full(3, self._architecture.hidden, dtype=np.int64))
        split = [f"{name}{role}" for role in roles]
        self._node("Split", [projected, sizes], split, domain="", axis=-1)
        return self._node("MultiHeadAttention", split, [f"{name}attended"], num_heads=self._architecture.heads)

    def _linear(self, x: str, name: str, *, bias: bool = True) -> str:
        weight = self._weights[f"{name}.weight"].astype(np.float32)  # (out, in)
        scale = np.maximum(np.abs(weight).max(axis=1) / _WEIGHT_RANGE, 1e-12).astype(np.float32)
        integers = np.rint(weight / scale[:, None]).clip(-_WEIGHT_RANGE, _WEIGHT_RANGE).astype(np.int8)
        inputs = [x, self._constant(f"{name}.int8", integers.T), self._constant(f"{name}.scale", scale), ""]
        if bias:
            inputs.append(self._constant(f"{name}.bias", self._weights[f"{name}.bias"]))
        return self._node("DynamicQuantizeMatMul", inputs, [f"{name}.out"])

    def _norm(self, x: str, skip: str, name: str) -> str:
        scale, shift = self._affine(name)
        inputs = [x, skip, scale, shift]
        return self._node("SkipLayerNormalization", inputs, [f"{name}.out"], epsilon=self._architecture.epsilon)

    def _affine(self, name: str) -> tuple[str, str]:
        return (
            self._constant(f"{name}.scale", self._weights[f"{name}.weight"]),
            self._constant(f"{name}.shift", self._weights[f"{name}.bias"]),
        )

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        if value.dtype == np.float16:
            value = value.astype(np.float32)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _node(
        self, kind: str, inputs: list[str], outputs: list[str], *, domain: str = _MICROSOFT, **attributes: Any
    ) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]
