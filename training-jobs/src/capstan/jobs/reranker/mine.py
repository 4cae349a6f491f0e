"""Hard negatives: passages that BM25 or dense search find for a query and that are of another document.

A query whose own document is in neither list is dropped: it says too little to be anybody's question (the
consistency filter of Promptagator; Dai et al. 2022). A passage that is much closer to the query than the positive is
left out: it probably answers too.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from capstan.jobs.reranker.labels import Labels
from capstan.jobs.reranker.queries import Example, QueryMaker
from capstan.jobs.reranker.recipe import Mining, Recipe
from capstan.jobs.reranker.search import Search, text_of

PAIRS = "pairs.jsonl"
_OF_ONE_DOCUMENT = 2


def make_examples(recipe: Recipe, documents: Sequence[dict[str, Any]], labels: Labels) -> list[Example]:
    """All examples of the recipe in a random order that is the same each time; no labelled question is among them."""
    forbidden = labels.forbidden()
    found: list[Example] = []
    for source in recipe.sources:
        rng = _random(f"{recipe.seed}/{source.prefix}")
        found += QueryMaker(source, documents, rng).examples(forbidden)
    _random(f"{recipe.seed}").shuffle(found)
    return found


def _random(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 (a choice of examples, not a secret)


def mine(example: Example, search: Search, mining: Mining, rng: random.Random) -> dict[str, Any] | None:
    """The example with its negatives, or None if it is dropped."""
    lists = [search(example.query, mode, mining.depth) for mode in ("dense", "bm25")]
    own = [result["score"] for result in lists[0] if result["document_id"] == example.document]
    if not own and not any(result["document_id"] == example.document for result in lists[1]):
        return None
    too_close = {r["id"] for r in lists[0] if own and r["score"] > max(own) + mining.margin}
    pool: dict[str, tuple[float, dict[str, Any]]] = {}
    for results in lists:
        for rank, result in enumerate(results):
            if result["document_id"] != example.document and result["id"] not in too_close:
                weight = 1 / (rank + 3) + (pool[result["id"]][0] if result["id"] in pool else 0)
                pool[result["id"]] = (weight, result)
    chosen = list(_spread(_weighted_order(list(pool.values()), rng), mining.negatives))
    if len(chosen) < mining.negatives:
        return None
    negatives = [{"document": r["document_id"], "passage": text_of(r)} for r in chosen]
    return {
        "kind": example.kind,
        "query": example.query,
        "document": example.document,
        "passage": example.passage,
        "negatives": negatives,
    }


def _weighted_order(pool: list[tuple[float, dict[str, Any]]], rng: random.Random) -> list[dict[str, Any]]:
    """A random order in which heavier ones tend to come first (Efraimidis and Spirakis 2006)."""
    keyed = [(rng.random() ** (1 / weight), result) for weight, result in pool]
    return [result for _, result in sorted(keyed, key=lambda item: -item[0])]


def _spread(results: Iterable[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """The first `count`, at most two of one document."""
    seen: dict[str, int] = {}
    for result in results:
        if count == 0:
            return
        seen[result["document_id"]] = seen.get(result["document_id"], 0) + 1
        if seen[result["document_id"]] <= _OF_ONE_DOCUMENT:
            count -= 1
            yield result


def mine_all(
    examples: Sequence[Example],
    search: Search,
    recipe: Recipe,
    out: Path,
    advance: Callable[[int], None],
    *,
    threads: int = 2,
) -> int:
    """Write `pairs.jsonl` and return its number of lines. Interrupted, it goes on where it stopped."""
    done_file = out / "mined.txt"
    done = int(done_file.read_text()) if done_file.is_file() and (out / PAIRS).is_file() else 0
    kept = _cut(out / PAIRS, out / "mined_bytes.txt") if done else 0
    block = 64
    with (out / PAIRS).open("ab" if done else "wb") as file, ThreadPoolExecutor(threads) as pool:
        advance(done)
        for start in range(done, len(examples), block):
            numbered = list(enumerate(examples[start : start + block], start))
            mined = pool.map(
                lambda item: mine(item[1], search, recipe.mining, _random(f"{recipe.seed}/{item[0]}")), numbered
            )
            lines = [json.dumps(pair, ensure_ascii=False) for pair in mined if pair]
            file.write("".join(line + "\n" for line in lines).encode())
            file.flush()
            kept += len(lines)
            (out / "mined_bytes.txt").write_text(f"{file.tell()} {kept}")
            done_file.write_text(str(start + len(numbered)))
            advance(len(numbered))
    return kept


def _cut(pairs: Path, counts: Path) -> int:
    """Cut a block that was half written when the process ended; the number of pairs before it."""
    size, kept = map(int, counts.read_text().split())
    with pairs.open("r+b") as file:
        file.truncate(size)
    return kept
