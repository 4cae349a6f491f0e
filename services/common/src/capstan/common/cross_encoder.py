"""A BERT cross-encoder on the CPU: a query and a passage read together by an int8 graph, no PyTorch.

A model directory holds `model.onnx` (made by `capstan.common.encoder_graph.write_cross_encoder`), `tokenizer.json` and
`config.json`. Pairs are scored one at a time, so that nothing is padded and a score does not depend on what else is
being scored; parallelism is threads.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from capstan.common.encoder_graph import UnsupportedModel

GRAPH = "model.onnx"
QUERY_TOKENS = 48
"""Most tokens of a query that are read."""


class CrossEncoder:
    """Logits of (query, passage)."""

    def __init__(self, model_dir: Path, *, passage_tokens: int) -> None:
        """Load a model directory; `passage_tokens` bounds a passage. Raises `UnsupportedModel`."""
        import onnxruntime
        from tokenizers import Tokenizer

        for name in (GRAPH, "tokenizer.json", "config.json"):
            if not (model_dir / name).is_file():
                raise UnsupportedModel(f"{model_dir} has no {name}")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        positions = json.loads((model_dir / "config.json").read_text())["max_position_embeddings"]
        self._passage_tokens = min(passage_tokens, positions - 2)
        self._tokenizer: Any = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cls, self._sep, self._unknown = (
            int(self._tokenizer.get_vocab()[token]) for token in ("[CLS]", "[SEP]", "[UNK]")
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(model_dir / GRAPH), options, providers=["CPUExecutionProvider"]
        )

    def logits(self, query: str, passages: Sequence[str], threads: Executor | None = None) -> tuple[list[float], int]:
        """One logit for each passage, in their order, and how many tokens were read."""
        texts = [query, *passages]
        asked, *told = [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        pairs = [self.pair(asked, passage) for passage in told]
        longest_first = sorted(range(len(pairs)), key=lambda index: -len(pairs[index][0]))  # the threads end together
        run = threads.map if threads else map
        values = [0.0] * len(pairs)
        for index, value in zip(longest_first, run(lambda i: self.logit(*pairs[i]), longest_first), strict=True):
            values[index] = value
        return values, sum(len(ids) for ids, _ in pairs)

    def pair(self, query: Sequence[int], passage: Sequence[int]) -> tuple[list[int], int]:
        """Token ids of a pair, and where segment 1 begins."""
        asked = [self._cls, *(query[:QUERY_TOKENS] or [self._unknown]), self._sep]
        return [*asked, self._cls, *(passage[: self._passage_tokens] or [self._unknown]), self._sep], len(asked)

    def logit(self, ids: Sequence[int], border: int) -> float:
        """The logit of one pair as `pair` gives it; may be called from any number of threads."""
        segments = np.zeros((1, len(ids)), dtype=np.int32)
        segments[0, border:] = 1
        places = np.arange(len(ids), dtype=np.int32)[None, :] - border * segments
        feed = {
            "ids": np.asarray([ids], dtype=np.int32),
            "segments": segments,
            "places": places,
            "border": np.asarray([border], dtype=np.int64),
        }
        return float(self._session.run(None, feed)[0][0, 0])
