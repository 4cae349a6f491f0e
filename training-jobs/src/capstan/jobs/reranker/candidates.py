"""What the retriever finds for the labelled questions, kept so that every model is measured on the same passages."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.search import Search, text_of

CANDIDATES = "candidates.json"
MODES = ("bm25", "dense", "hybrid")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its gold documents, and for each mode the documents of the chunks that were found, best first.

    `passages` are the texts of the chunks of the hybrid list.
    """

    id: str
    text: str
    gold: frozenset[str]
    found: dict[str, list[str]]
    passages: list[str]

    @property
    def relevant(self) -> list[bool]:
        """Which of the passages are of a gold document."""
        return [document in self.gold for document in self.found["hybrid"]]


def collect(
    questions: Sequence[dict[str, Any]], search: Search, depth: int, out: Path, advance: Callable[[int], None]
) -> None:
    """Ask the retriever and write `candidates.json`; complete or absent."""
    rows = []
    for question in questions:
        lists = {mode: search(question["question"], mode, depth) for mode in MODES}
        rows.append(
            {
                "id": question["id"],
                "text": question["question"],
                "gold": question["documents"],
                "found": {mode: [result["document_id"] for result in results] for mode, results in lists.items()},
                "passages": [text_of(result) for result in lists["hybrid"]],
            }
        )
        advance(1)
    part = out / f"{CANDIDATES}.part"
    part.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    os.replace(part, out / CANDIDATES)


def read_candidates(out: Path) -> list[Question]:
    """What `collect` wrote. Raises `RerankerError`."""
    path = out / CANDIDATES
    if not path.is_file():
        raise RerankerError(f"{path} is missing; run mine first")
    return [
        Question(row["id"], row["text"], frozenset(row["gold"]), row["found"], row["passages"])
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]
