"""The labels as evaluation reads them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from capstan.jobs.evaluate.errors import EvaluateError

Split = Literal["dev", "test"]
LABELS = Path(__file__).parents[4] / "labels"
QUESTIONS = "questions.jsonl"
KNOWN_ITEMS = "known_items.jsonl"


@dataclass(frozen=True, slots=True)
class Question:
    """A labelled question. `documents` are gold; `withhold` says whether it can be made unanswerable by excluding them.

    `heading` is the question as its FAQ page has it; `text` names the product where the heading does not.
    """

    id: str
    text: str
    heading: str
    answer: str
    documents: frozenset[str]
    source: str
    split: str
    withhold: bool


def load_questions(labels: Path, split: Split | None = None) -> list[Question]:
    """The questions of a split, or all. Raises `EvaluateError` if the labels are not there or not whole."""
    path = labels / QUESTIONS
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        questions = [_question(record) for record in records]
    except OSError as error:
        raise EvaluateError(
            f"{path}: {error.strerror}; build the labels (python -m capstan.jobs.labels build)"
        ) from None
    except (ValueError, KeyError) as error:
        raise EvaluateError(f"{path} is not a file of questions ({error!r}); build the labels again") from None
    chosen = [question for question in questions if split in (None, question.split)]
    if not chosen:
        raise EvaluateError(f"{path} has no questions of the split {split}")
    return chosen


def load_known_items(path: Path) -> dict[str, list[Question]]:
    """Titles and headings with their own documents, by kind. They are no questions, and their split means nothing."""
    if not path.is_file():
        raise EvaluateError(f"{path} does not exist; build the labels (python -m capstan.jobs.labels build)")
    kinds: dict[str, list[Question]] = {}
    for record in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        item = _question({**record, "answer": "", "source": record["documents"][0].partition("/")[0], "split": "dev"})
        kinds.setdefault(record["kind"], []).append(item)
    return kinds


def _question(record: dict[str, Any]) -> Question:
    return Question(
        id=record["id"],
        text=record["question"],
        heading=record.get("heading", record["question"]),
        answer=record["answer"],
        documents=frozenset(record["documents"]),
        source=record["source"],
        split=record["split"],
        withhold=record.get("withhold", False),
    )
