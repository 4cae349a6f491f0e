"""The cross-encoder that the reranker job makes: int8, ONNX Runtime, no PyTorch."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from capstan.common.cross_encoder import CrossEncoder
from capstan.common.encoder_graph import UnsupportedModel
from capstan.common.models import ModelError
from capstan.reranker.scores import Scores


class OnnxCrossEncoder:
    """A directory with `model.onnx`; each thread scores one pair at a time."""

    name = "cross-encoder"
    method = "query and passage read together by one encoder; similarity of the jointly read tokens"
    scale = "0..1, the sigmoid of the model's output; the artifact's model card says what 0.5 means"
    runtime = "onnxruntime int8"

    def __init__(self, model_dir: Path, *, passage_tokens: int, threads: int) -> None:
        try:
            self._model = CrossEncoder(model_dir, passage_tokens=passage_tokens)
        except UnsupportedModel as reason:
            raise ModelError(f"{reason}; the artifact is not whole, export it again") from reason
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="score")

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        """Score each passage alone, so that a score does not depend on the others."""
        logits, tokens = self._model.logits(query, passages, self._threads)
        return Scores([1 / (1 + math.exp(-logit)) for logit in logits], tokens)
