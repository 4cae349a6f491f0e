"""Documents to clean splits, on datatrove: the same pipeline runs on its Slurm and Ray executors.

language -> quality (Gopher) -> repetition -> personal data -> MinHash (Broder 1997; as FineWeb has it) -> split by
document -> 13-gram decontamination of what is held out. Each stage's removals are kept under `removed/`.
"""

import gzip
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from capstan.jobs.pretrain.recipe import Data
from capstan.jobs.pretrain.steps import Corpus, Language, Personal, QuietExecutor, Split, Whitespace
from capstan.jobs.pretrain.tasks import write_tasks
from capstan.jobs.pretrain.text import ngram_hashes, seen_in

MANIFEST = "manifest.json"
HELD_OUT = ("validation", "test")
_SHARDS = 4
_SYMBOLS = "🥇👯🎯📞🐿 "  # datatrove's names begin with pictures
Say = Callable[[str], None]


def build(
    documents: Path, out: Path, plan: Data, head: dict[str, Any], say: Say, workers: int | None = None
) -> dict[str, Any]:
    """Write `out`/{train,validation,test}/*.jsonl.gz, tasks/, removed/ and the manifest; complete or absent.

    `head` begins the manifest: where it comes from. Returns the manifest. `workers`: processes, by default one a core.
    """
    workers = workers or os.cpu_count() or 1
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".data-") as scratch:
        draft = Path(scratch, "data")
        pipelines = Pipelines(draft, Path(scratch), plan, workers, say)
        stages = [*pipelines.clean(documents), *pipelines.deduplicate()]
        say("data: decontaminate validation and test")
        stage, seen = _decontaminate(draft, plan)
        tasks = write_tasks(draft / "tasks", read_split(draft, "test"), seen, plan)
        manifest = {**head, "stages": [*stages, stage], "splits": _splits(draft), "tasks": tasks}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(draft, out)
    return manifest


def code_sha256() -> str:
    """Hash of the code that decides what the splits and tasks hold."""
    digest = hashlib.sha256()
    for name in ("data.py", "steps.py", "tasks.py", "text.py"):
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]


def read_split(directory: Path, split: str) -> Iterator[dict[str, Any]]:
    """Documents of a split: `id`, `text`, `metadata`."""
    for path in sorted((directory / split).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


class Pipelines:
    """The stages that run on datatrove; each returns what its steps counted."""

    def __init__(self, draft: Path, scratch: Path, plan: Data, workers: int, say: Say) -> None:
        self._draft, self._scratch, self._plan, self._workers, self._say = draft, scratch, plan, workers, say

    def clean(self, documents: Path) -> list[dict[str, Any]]:
        """Filter by language, quality and repetition, and replace personal data."""
        plan = self._plan
        steps = [
            Corpus(documents),
            Language(plan.max_foreign_letters, self._removed("1_language")),
            GopherQualityFilter(
                min_doc_words=plan.min_words,
                min_avg_word_length=2,  # operators and flags are short words
                max_avg_word_length=14,  # names of functions are long ones
                max_symbol_word_ratio=0.2,
                max_non_alpha_words_ratio=plan.min_alphabetic_words,
                language=Whitespace(),
                exclusion_writer=self._removed("2_quality"),
            ),
            GopherRepetitionFilter(
                dup_line_frac=plan.max_duplicate_lines,
                dup_para_frac=plan.max_duplicate_lines,
                dup_line_char_frac=plan.max_duplicate_lines,
                dup_para_char_frac=plan.max_duplicate_lines,
                top_n_grams=(),  # the names that a reference page is about are what it repeats most
                dup_n_grams=(),
                language=Whitespace(),
                exclusion_writer=self._removed("3_repetition"),
            ),
            Personal(),
            JsonlWriter(str(self._scratch / "clean")),
        ]
        return self._run("filter", steps)

    def deduplicate(self) -> list[dict[str, Any]]:
        """Keep one of each group of near-duplicates, and split what is left."""
        config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, seed=self._plan.seed)
        clean, minhash = str(self._scratch / "clean"), self._scratch / "minhash"
        signatures, buckets, remove = (str(minhash / name) for name in ("signatures", "buckets", "remove"))
        self._run("minhash", [JsonlReader(clean), MinhashDedupSignature(signatures, config, Whitespace())])
        self._run("buckets", [MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets)
        self._run("clusters", [MinhashDedupCluster(buckets, remove, config=config)], 1)
        steps = [
            JsonlReader(clean),
            MinhashDedupFilter(remove, exclusion_writer=self._removed("4_near_duplicates")),
            Split(self._plan.seed, self._plan.validation, self._plan.test),
            JsonlWriter(str(self._draft), output_filename="${split}/${rank}.jsonl.gz"),
        ]
        return self._run("split", steps)

    def _removed(self, name: str) -> JsonlWriter:
        return JsonlWriter(str(self._draft / "removed" / name))

    def _run(self, name: str, steps: list[Any], tasks: int = _SHARDS) -> list[dict[str, Any]]:
        self._say(f"data: {name}")
        logs, workers = str(self._scratch / "logs" / name), min(tasks, self._workers)
        stats = QuietExecutor(steps, tasks=tasks, workers=workers, logging_dir=logs, skip_completed=False).run()
        counted = []
        for step in stats.stats:
            counts = {key: value.total for key, value in step.stats.items() if not key.startswith("doc_len")}
            if "Jsonl" not in step.name:
                counted.append({"stage": step.name.split(": ", 1)[-1].strip(_SYMBOLS), **counts})
        return counted


def _decontaminate(draft: Path, plan: Data) -> tuple[dict[str, Any], Any]:
    """Drop held-out documents that training has seen; their count, and all n-grams that are seen (sorted)."""
    texts = {split: list(read_split(draft, split)) for split in HELD_OUT}
    hashes = {d["id"]: ngram_hashes(d["text"], plan.overlap_words) for found in texts.values() for d in found}
    wanted = np.unique(np.concatenate([*hashes.values(), np.empty(0, np.uint64)]))
    seen = seen_in((d["text"] for d in read_split(draft, "train")), wanted, plan.overlap_words)
    counts: Counter[str] = Counter()
    dropped: list[dict[str, Any]] = []
    for split, documents in texts.items():
        kept: list[dict[str, Any]] = []
        for document in documents:
            own = hashes[document["id"]]
            share = float(np.isin(own, seen).mean()) if len(own) else 0.0
            document["metadata"]["overlap"] = round(share, 4)
            (kept if share <= plan.max_overlap else dropped).append(document)
        counts[f"{split}_total"], counts[f"{split}_kept"] = len(documents), len(kept)
        shutil.rmtree(draft / split)
        _write(draft / split / "00000.jsonl.gz", kept)
    _write(draft / "removed" / "5_seen_in_training" / "00000.jsonl.gz", dropped)
    stage = {"stage": "Decontamination", "words": plan.overlap_words, "dropped": len(dropped), **counts}
    return stage, seen


def _write(path: Path, documents: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)


def _splits(draft: Path) -> dict[str, dict[str, Any]]:
    sizes = {}
    for split in ("train", *HELD_OUT):
        digest, documents, size = hashlib.sha256(), 0, 0
        for document in read_split(draft, split):
            text = document["text"].encode()
            digest.update(text)
            documents, size = documents + 1, size + len(text)
        sizes[split] = {"documents": documents, "bytes": size, "sha256": digest.hexdigest()}
    return sizes
