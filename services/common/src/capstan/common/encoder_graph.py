"""The ONNX graph of a BERT encoder with int8 weights, written straight from its safetensors file.

Weights are quantized per output channel and symmetrically to 7 bits, so that AVX2's 16-bit sums cannot saturate; the
activations are quantized to 8 bits while it runs (ONNX Runtime's DynamicQuantizeMatMul).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

_WEIGHT_RANGE = 64  # 255 * 64 * 2 < 2**15
_TABLE_RANGE = 127  # read by Gather, never summed in integers
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


def write_encoder(model_dir: Path, target: Path) -> None:
    """Write the int8 graph of a BERT encoder. Raises `UnsupportedModel`.

    Input `ids`, int32 of shape (texts, tokens); output: vectors of shape (texts, tokens, hidden).
    """
    _Graph(model_dir).save(str(target))


def write_cross_encoder(model_dir: Path, target: Path) -> None:
    """Write the int8 graph of a cross-encoder over a BERT encoder. Raises `UnsupportedModel`.

    A pair is `[CLS] query [SEP]` (segment 0) and `[CLS] passage [SEP]` (segment 1), each with positions from 0. Inputs:
    `ids`, `segments` and `places` (positions), int32 of shape (1, tokens), and `border`, int64 of shape (1,): where
    segment 1 begins. Output: a logit of shape (1, 1), from the similarity of the two segments' vectors and from the
    first vector: weights `head.similarity` (1, 2) and `head.cls` (1, hidden). `cross_attention_bias` of config.json is
    added to attention logits between the segments.
    """
    _PairGraph(model_dir).save(str(target))


def _rows_to_int8(weight: npt.NDArray[Any], limit: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Integers within `limit` and one scale for each row, of which the product is about `weight`."""
    weight = weight.astype(np.float32)
    scale = np.maximum(np.abs(weight).max(axis=1) / limit, 1e-12).astype(np.float32)
    return np.rint(weight / scale[:, None]).clip(-limit, limit).astype(np.int8), scale


class _Graph:
    """Writes the ONNX graph of a BERT encoder, layer by layer."""

    def __init__(self, model_dir: Path) -> None:
        from safetensors.numpy import load_file

        self._architecture = Architecture.read(model_dir)
        self._weights = {k.removeprefix("bert."): v for k, v in load_file(model_dir / "model.safetensors").items()}
        self._constants: list[TensorProto] = []
        self._nodes: list[NodeProto] = []

    def save(self, path: str) -> None:
        """Build the graph of the encoder and write it to `path`."""
        output = self._layers(self._embed("ids"))
        self._write(path, ["ids"], output, ["texts", "tokens", self._architecture.hidden])

    def _write(
        self, path: str, inputs: Sequence[str], output: str, shape: list[str | int], numbers: Sequence[str] = ()
    ) -> None:
        """`inputs` are int32 of shape (texts, tokens), `numbers` are int64 of shape (1,)."""
        import onnx
        from onnx import helper

        int32, int64 = onnx.TensorProto.INT32, onnx.TensorProto.INT64
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [
                *(helper.make_tensor_value_info(name, int32, ["texts", "tokens"]) for name in inputs),
                *(helper.make_tensor_value_info(name, int64, [1]) for name in numbers),
            ],
            [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_MICROSOFT, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)

    def _layers(self, x: str, attention_bias: str | None = None) -> str:
        for layer in range(self._architecture.layers):
            x = self._layer(x, f"encoder.layer.{layer}.", attention_bias)
        return x

    def _embed(self, ids: str) -> str:
        positions = self._weights["embeddings.position_embeddings.weight"]
        positions = positions + self._weights["embeddings.token_type_embeddings.weight"][0]  # always segment 0
        words = self._constant("words", self._weights["embeddings.word_embeddings.weight"])
        scale, shift = self._affine("embeddings.LayerNorm")
        inputs = [ids, "", words, self._constant("positions", positions), "", scale, shift]
        self._node("EmbedLayerNormalization", inputs, ["embedded", "mask"], epsilon=self._architecture.epsilon)
        return "embedded"

    def _layer(self, x: str, name: str, attention_bias: str | None) -> str:
        attended = self._linear(self._attention(x, name, attention_bias), f"{name}attention.output.dense")
        x = self._norm(attended, x, f"{name}attention.output.LayerNorm")
        wide = self._linear(x, f"{name}intermediate.dense", bias=False)
        bias = self._constant(f"{name}wide.bias", self._weights[f"{name}intermediate.dense.bias"])
        active = self._node("BiasGelu", [wide, bias], [f"{name}gelu"])
        return self._norm(self._linear(active, f"{name}output.dense"), x, f"{name}output.LayerNorm")

    def _attention(self, x: str, name: str, bias: str | None) -> str:
        roles = ("query", "key", "value")
        for kind in ("weight", "bias"):
            parts = [self._weights[f"{name}attention.self.{role}.{kind}"] for role in roles]
            self._weights[f"{name}qkv.{kind}"] = np.concatenate(parts)
        projected = self._linear(x, f"{name}qkv")
        sizes = self._constant(f"{name}sizes", np.full(3, self._architecture.hidden, dtype=np.int64))
        split = [f"{name}{role}" for role in roles]
        self._node("Split", [projected, sizes], split, domain="", axis=-1)
        inputs = [*split, "", "", bias] if bias else split
        return self._node("MultiHeadAttention", inputs, [f"{name}attended"], num_heads=self._architecture.heads)

    def _linear(self, x: str, name: str, *, bias: bool = True) -> str:
        integers, scale = _rows_to_int8(self._weights[f"{name}.weight"], _WEIGHT_RANGE)  # (out, in)
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
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def _node(
        self, kind: str, inputs: list[str], outputs: list[str], *, domain: str = _MICROSOFT, **attributes: Any
    ) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]


class _PairGraph(_Graph):
    """Writes the graph of a cross-encoder: embeddings in int8 too, two segments, and a head."""

    def __init__(self, model_dir: Path) -> None:
        super().__init__(model_dir)
        self._bias = float(json.loads((model_dir / "config.json").read_text())["cross_attention_bias"])
        self._named: set[str] = set()

    def save(self, path: str) -> None:
        """The graph of a pair: `ids`, `segments`, `places` and `border` in, one logit out."""
        bias = self._between("segments", self._bias)
        hidden = self._layers(self._embed_int8("ids", "places"), bias)
        score = self._gemm(self._features(hidden, "border"), "head.similarity")
        first = self._constant("first", np.asarray(0, dtype=np.int64))
        self._node("Gather", [hidden, first], ["cls"], domain="", axis=1)
        logit = self._node("Add", [score, self._gemm("cls", "head.cls")], ["logit"], domain="")
        self._write(path, ["ids", "segments", "places"], logit, ["texts", 1], numbers=["border"])

    def _between(self, segments: str, value: float) -> str:
        """What is added to attention logits: `value` between tokens of different segments, 0 within one."""
        rows = self._op("Unsqueeze", [segments, self._ints("two", 2)], "segment.rows")
        columns = self._op("Unsqueeze", [segments, self._ints("one", 1)], "segment.columns")
        same = self._op("Equal", [rows, columns], "segment.same")
        closed = self._constant("cross_attention", np.asarray(value, dtype=np.float32))
        opened = self._constant("self_attention", np.asarray(0, dtype=np.float32))
        bias = self._op("Where", [same, opened, closed], "attention.bias")
        return self._op("Unsqueeze", [bias, self._ints("one", 1)], "attention.bias4")

    def _features(self, hidden: str, border: str) -> str:
        """Shape (pairs, 2): MaxSim of query words over passage words, and the cosine of the segments' means."""
        axis, zero, one, end = self._ints("axis", 1), self._ints("zero", 0), self._ints("one", 1), self._ints("end", -1)
        last = self._ints("rest", np.iinfo(np.int64).max)
        words_end = self._op("Sub", [border, one], "query.end")
        words_start = self._op("Add", [border, one], "passage.start")
        unit = self._unit(hidden, "tokens")
        query = self._op("Slice", [unit, one, words_end, axis], "query.words")
        passage = self._op("Slice", [unit, words_start, end, axis], "passage.words")
        turned = self._node("Transpose", [passage], ["passage.turned"], domain="", perm=[0, 2, 1])
        cosines = self._op("MatMul", [query, turned], "cosines")
        best = self._node("ReduceMax", [cosines], ["best"], domain="", axes=[2], keepdims=0)
        maxsim = self._node("ReduceMean", [best], ["maxsim"], domain="", axes=[1], keepdims=1)
        means = []
        for name, start, stop in (("query", zero, border), ("passage", border, last)):
            part = self._op("Slice", [hidden, start, stop, axis], f"{name}.part")
            mean = self._node("ReduceMean", [part], [f"{name}.mean"], domain="", axes=[1], keepdims=0)
            means.append(self._unit(mean, f"{name}.mean"))
        product = self._op("Mul", means, "mean.product")
        cosine = self._node("ReduceSum", [product, self._ints("last", -1)], ["cosine"], domain="", keepdims=1)
        return self._node("Concat", [maxsim, cosine], ["features"], domain="", axis=1)

    def _unit(self, x: str, name: str) -> str:
        """Vectors of length 1."""
        length = self._node("ReduceL2", [x], [f"{name}.length"], domain="", axes=[-1], keepdims=1)
        return self._op("Div", [x, length], f"{name}.unit")

    def _ints(self, name: str, value: int) -> str:
        name = f"int.{name}"
        if name not in self._named:
            self._named.add(name)
            self._constant(name, np.asarray([value], dtype=np.int64))
        return name

    def _op(self, kind: str, inputs: list[str], output: str) -> str:
        return self._node(kind, inputs, [output], domain="")

    def _embed_int8(self, ids: str, places: str) -> str:
        """Embeddings from a table of int8 with a scale for each row: a quarter of the size, read by Gather."""
        integers, scale = _rows_to_int8(self._weights["embeddings.word_embeddings.weight"], _TABLE_RANGE)
        words = self._op("Gather", [self._constant("words.int8", integers), ids], "words")
        scales = self._op("Gather", [self._constant("words.scale", scale[:, None]), ids], "scales")
        self._op("Mul", [self._cast(words, "words.float"), scales], "words.scaled")
        positions = self._weights["embeddings.position_embeddings.weight"]
        positions = positions + self._weights["embeddings.token_type_embeddings.weight"][0]  # always type 0
        self._op("Gather", [self._constant("positions", positions), places], "placed")
        return self._norm("words.scaled", "placed", "embeddings.LayerNorm")

    def _gemm(self, x: str, name: str) -> str:
        """A small layer in full precision."""
        weight, bias = (
            self._constant(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in ("weight", "bias")
        )
        return self._node("Gemm", [x, weight, bias], [f"{name}.out"], domain="", transB=1)

    def _cast(self, x: str, name: str) -> str:
        from onnx import TensorProto

        return self._node("Cast", [x], [name], domain="", to=TensorProto.FLOAT)
