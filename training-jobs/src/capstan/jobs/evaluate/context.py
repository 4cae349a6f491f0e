"""The evidence of answers against the labels: metrics that need no judge, and the samples that ragas reads.

The order of an answer's passages is the order in which the language model got them. A passage is relevant
if its document is gold. Labels are links that people wrote into FAQ answers, so they are sparse: a passage
of another document may answer as well and still counts as irrelevant. `by_reference` says how much that is:
there a passage is relevant, too, if it holds a sentence of the reference answer.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capstan.jobs.evaluate.asking import Answer
from capstan.jobs.evaluate.citations import passage_text
from capstan.jobs.evaluate.metrics import context_precision
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.stats import bootstrap_ci
from capstan.jobs.evaluate.verifier import Verifier, attributable
from capstan.jobs.evaluate.words import word_recall

BRIEF_CONTEXT_PRECISION = 0.81
"""The figure to beat or to explain."""

_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n{2,}")
_SECTION_CHARS = 4000


def gold_sections(labels: Path, documents: Path) -> dict[str, list[str]]:
    """Texts of the sections that the labels name, by question id."""
    wanted: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for line in labels.read_text().splitlines():
        row = json.loads(line)
        for section in row.get("sections") or ():
            heading = section["heading"]
            path = (heading,) if isinstance(heading, str) else tuple(heading)
            wanted.setdefault(row["id"], []).append((section["document"], path))
    ids = {document for places in wanted.values() for document, _ in places}
    texts: dict[tuple[str, tuple[str, ...]], str] = {}
    with documents.open() as file:
        for line in file:
            if (document := json.loads(line))["id"] in ids:
                for section in document["sections"]:
                    place = (document["id"], tuple(section["heading"]))
                    texts.setdefault(place, section["text"][:_SECTION_CHARS])
    return {id_: [texts[p] for p in dict.fromkeys(places) if p in texts] for id_, places in wanted.items()}


def sample(question: Question, answer: Answer, sections: Sequence[str]) -> dict[str, Any]:
    """What ragas is given of an answer: plain texts and ids, nothing of the service."""
    return {
        "key": answer.key,
        "id": question.id,
        "question": question.text,
        "response": strip_markers(answer),
        "mode": answer.details.get("mode"),
        "abstained": answer.abstained,
        "contexts": [passage_text(p) for p in answer.passages],
        "context_ids": [p["document_id"] for p in answer.passages],
        "reference": question.answer,
        "reference_ids": sorted(question.documents),
        "reference_contexts": list(sections),
    }


def strip_markers(answer: Answer) -> str:
    """The answer without its citation markers, which no metric should read as words."""
    text = answer.text
    given = [a["url_citation"] for a in answer.annotations if a.get("type") == "url_citation"]
    for citation in sorted(given, key=lambda c: -int(c["start_index"])):
        start, end = int(citation["start_index"]), int(citation["end_index"])
        text = text[:start].rstrip(" ") + text[end:]
    return text


def score(samples: Sequence[Mapping[str, Any]], *, failed: int, seed: int) -> dict[str, Any]:
    """The metrics over samples of answerable questions; `failed` are the answers that did not come."""
    verifier = Verifier(None)
    values: dict[str, list[float]] = {}
    relevant_found: list[float] = []
    for one in samples:
        for name, value in measure(one, verifier).items():
            values.setdefault(name, []).append(value)
        if values["context_precision"][-1]:
            relevant_found.append(values["context_precision"][-1])
    common = {"n": len(samples) + failed, "n_failed": failed, "n_abstained": sum(s["abstained"] for s in samples)}
    result: dict[str, Any] = {name: {**mean(found, seed=seed), **common} for name, found in values.items()}
    result["explained"] = {
        "brief": BRIEF_CONTEXT_PRECISION,
        "without_any_gold_passage": len(samples) - len(relevant_found),
        "context_precision_where_one_was_found": mean(relevant_found, seed=seed),
    }
    return result


def measure(one: Mapping[str, Any], verifier: Verifier) -> dict[str, float]:
    """All metrics of one sample."""
    gold = set(one["reference_ids"])
    ids: list[str] = one["context_ids"]
    said = [text for text in _SENTENCE.split(one["reference"]) if attributable(text)]
    holds = [any(verifier.judge(text, [passage]).supported for text in said) for passage in one["contexts"]]
    marked = [id_ if id_ in gold else "*" if held else "-" for id_, held in zip(ids, holds, strict=True)]
    return {
        "context_precision": context_precision(ids, gold),
        "context_precision_by_reference": context_precision(marked, gold | {"*"}),
        "id_context_precision": len(gold & set(ids)) / len(set(ids)) if ids else 0.0,
        "id_context_recall": len(gold & set(ids)) / len(gold),
        "reference_word_recall": word_recall(one["reference"], one["contexts"]),
    }


def mean(values: Sequence[float], *, seed: int) -> dict[str, Any]:
    """Mean with a bootstrap interval; None of nothing."""
    if not values:
        return {"value": None, "ci95": None, "n_scored": 0}
    low, high = bootstrap_ci(values, seed=seed)
    value = round(sum(values) / len(values), 4)
    return {"value": value, "ci95": [round(low, 4), round(high, 4)], "n_scored": len(values)}
