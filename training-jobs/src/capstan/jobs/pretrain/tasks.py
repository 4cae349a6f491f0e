"""Two downstream tasks from held-out documents, as lm-evaluation-harness reads them.

`capstan_cloze`: which of four words ends the passage's last sentence. `capstan_section`: under which of four headings
of its document a passage stands; the passage is scored below each heading, so that all four continuations are the
same text (as WinoGrande is scored, Sakaguchi et al. 2019). Chance is 25% in both.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capstan.jobs.pretrain.recipe import Data
from capstan.jobs.pretrain.text import ngram_hashes

CHOICES = 4
_CHARACTERS = (140, 550)
"""Length of a passage: enough to judge by, and within the context of every model."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_PROSE = re.compile(r"[A-Z][^\n|`{}<>=]*[.!?]")


def write_tasks(out: Path, documents: Iterable[dict[str, Any]], seen: NDArray[np.uint64], plan: Data) -> dict[str, int]:
    """Write cloze.jsonl and section.jsonl; how many items each has. No passage shares an n-gram of `seen`."""
    out.mkdir(parents=True)
    clean = [document for document in documents if document["text"].strip()]
    counts = {}
    for name, make in (("cloze", cloze_items), ("section", section_items)):
        rng = random.Random(f"{plan.seed}/{name}")  # noqa: S311
        items = []
        for document in clean:
            fresh = [i for i in make(document, rng) if not _was_seen(i["passage"], seen, plan.overlap_words)]
            items += rng.sample(fresh, min(len(fresh), 5))  # no document weighs much
        items = rng.sample(items, min(len(items), plan.task_items))
        (out / f"{name}.jsonl").write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
        counts[name] = len(items)
    return counts


def _was_seen(text: str, seen: NDArray[np.uint64], n: int) -> bool:
    return bool(np.isin(ngram_hashes(text, n), seen).any())


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings of a document with the prose under them; what is in code fences is no heading."""
    heading, lines, code = "", list[str](), False
    for line in [*text.splitlines(), "# "]:
        if line.startswith("```"):
            code = not code
        elif not code and re.match(r"#+ ", line):
            if heading and lines:
                yield heading, "\n".join(lines).strip()
            heading, lines = line.lstrip("# ").strip(), []
            continue
        lines.append(line)


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a section that are plain sentences of a fitting length."""
    for paragraph in text.split("\n\n"):
        line = " ".join(paragraph.split())
        if _PROSE.fullmatch(line) and _CHARACTERS[0] <= len(line) <= _CHARACTERS[1]:
            yield line


def cloze_items(document: dict[str, Any], rng: random.Random) -> Iterator[dict[str, Any]]:
    """Passages without their last word; the others are words that end sentences of the same document."""
    found = [(heading, p) for heading, text in sections(document["text"]) for p in _paragraphs(text)]
    endings = sorted({_last_word(sentence) for _, p in found for sentence in _SENTENCE.split(p)} - {""})
    for heading, passage in found:
        answer = _last_word(passage)
        others = [word for word in endings if word not in passage]
        if not answer or len(others) < CHOICES - 1:
            continue
        choices = [answer, *rng.sample(others, CHOICES - 1)]
        rng.shuffle(choices)
        context = f"## {heading}\n\n{passage[: passage.rindex(answer)].rstrip()}"
        yield _item(document, passage, context=context, choices=choices, answer=choices.index(answer))


def _last_word(sentence: str) -> str:
    match = re.search(r" ([a-z]{4,})[.!?]$", sentence)
    return match.group(1) if match else ""


def section_items(document: dict[str, Any], rng: random.Random) -> Iterator[dict[str, Any]]:
    """Passages with their own heading and three others of the document."""
    found = [(heading, p) for heading, text in sections(document["text"]) for p in list(_paragraphs(text))[:1]]
    headings = sorted({heading for heading, _ in found if 3 <= len(heading) <= 60})
    for heading, passage in found:
        others = [other for other in headings if other.lower() != heading.lower()]
        if heading not in headings or len(others) < CHOICES - 1:
            continue
        choices = [heading, *rng.sample(others, CHOICES - 1)]
        rng.shuffle(choices)
        contexts = [f"## {choice}\n\n" for choice in choices]
        yield _item(document, passage, contexts=contexts, answer=choices.index(heading))


def _item(document: dict[str, Any], passage: str, **fields: Any) -> dict[str, Any]:
    return {"document": document["id"], "passage": passage, **fields}
