"""Answers of two arms of the generator, compared on the same questions."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from capstan.jobs.evaluate.asking import Answer, Headers, ask_all, meaning_of, plan
from capstan.jobs.evaluate.metrics import context_precision, recall
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.results import markdown_table
from capstan.jobs.evaluate.stats import difference_ci, randomization_test
from capstan.jobs.evaluate.words import word_recall

AnswerMetric = Callable[[Question, Answer], float | None]
"""A score in 0..1, or None where there is nothing to score: such a question is left out, never filled in."""


def _source_precision(question: Question, answer: Answer) -> float | None:
    documents = [passage["document_id"] for passage in answer.passages]
    return context_precision(documents, question.documents) if documents else None


def _source_recall(question: Question, answer: Answer) -> float | None:
    documents = [passage["document_id"] for passage in answer.passages]
    return recall(documents, question.documents, len(documents))


def _supported(_: Question, answer: Answer) -> float | None:
    sentences = answer.details.get("sentences") or []
    return sum(bool(s["supported"]) for s in sentences) / len(sentences) if sentences else None


METRICS: dict[str, AnswerMetric] = {
    "context_precision": _source_precision,
    "document_recall": _source_recall,
    "evidence_words": lambda q, answer: word_recall(q.answer, [passage["text"] for passage in answer.passages]),
    "answer_words": lambda q, answer: None if answer.abstained else word_recall(q.answer, [answer.text]),
    "supported_sentences": _supported,
    "answered": lambda _, answer: float(not answer.abstained),
}


async def ask_arm(url: str, arm: str, questions: Sequence[Question], headers: Headers, path: Path) -> list[Answer]:
    """The answers of `docs:<arm>` at a generator or gateway, kept in `path`. Raises `EvaluateError`."""
    model = "docs" if arm == "default" else f"docs:{arm}"
    timeout = httpx2.Timeout(300.0, connect=5.0)
    async with httpx2.AsyncClient(base_url=url, timeout=timeout, trust_env=False) as client:
        asks = [
            ask
            for ask in plan(questions, model, {}, await meaning_of(client, model, headers))
            if ask.condition == "given"
        ]
        return await ask_all(asks, client, headers, path, concurrency=4)


def ask_arms(
    url: str, arms: Sequence[str], questions: Sequence[Question], headers: Headers, directory: Path
) -> dict[str, list[dict[str, Any]]]:
    """For each arm one row a question: the answer, and its metrics; none of them where the answer failed."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for arm in arms:
        answers = asyncio.run(ask_arm(url, arm, questions, headers, directory / "answers.jsonl"))
        rows[arm] = [_row(arm, *pair) for pair in zip(questions, answers, strict=True)]
    return rows


def compare_answers(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], seed: int) -> str:
    """A table: each metric over the questions that both arms have a score for, and how many those are."""
    rows = []
    for metric in METRICS:
        pairs = [(x[metric], y[metric]) for x, y in zip(a, b, strict=True) if None not in (x[metric], y[metric])]
        if not pairs:
            rows.append([metric, "0", *[""] * 5])
            continue
        one, other = [x for x, _ in pairs], [y for _, y in pairs]
        means = [sum(values) / len(pairs) for values in (one, other)]
        low, high = difference_ci(one, other, seed=seed)
        p = randomization_test(one, other, seed=seed)
        scores = [*(f"{mean:.3f}" for mean in means), f"{means[0] - means[1]:+.3f}", f"{low:+.3f} to {high:+.3f}"]
        rows.append([metric, str(len(pairs)), *scores, f"{p:.4f}"])
    failed = sum(row["error"] is not None for row in (*a, *b))
    table = markdown_table(["metric", "n", "A", "B", "A - B", "95% CI", "p"], rows)
    return f"{table}\n\n{len(a)} questions, {failed} answers failed"


def _row(arm: str, question: Question, answer: Answer) -> dict[str, Any]:
    scores = {name: None if answer.error else metric(question, answer) for name, metric in METRICS.items()}
    return {"arm": arm, "question": question.id, "answer": answer.text, "error": answer.error, **scores}
