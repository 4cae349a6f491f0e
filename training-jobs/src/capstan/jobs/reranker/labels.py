"""The questions with known answers: dev may be looked at, test may not."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.queries import normal

QUESTIONS = "questions.jsonl"
KNOWN_ITEMS = "known_items.jsonl"


@dataclass(frozen=True, slots=True)
class Labels:
    """Questions of one directory of labels."""

    directory: Path

    def questions(self, split: Literal["dev", "test"]) -> list[dict[str, Any]]:
        """The questions of a split. Raises `RerankerError` if there are none."""
        found = [q for q in self._read(QUESTIONS) if q["split"] == split]
        if not found:
            raise RerankerError(f"{self.directory / QUESTIONS} has no questions of the {split} split")
        return found

    def known_items(self) -> list[dict[str, Any]]:
        """Titles and headings that evaluation searches for, if there are any."""
        return self._read(KNOWN_ITEMS) if (self.directory / KNOWN_ITEMS).is_file() else []

    def forbidden(self) -> frozenset[str]:
        """Normalized questions that evaluation asks, as asked and as headings: none may be trained on."""
        items = [*self._read(QUESTIONS), *self.known_items()]
        return frozenset(normal(item[key]) for item in items for key in ("question", "heading") if item.get(key))

    @property
    def sha256(self) -> str:
        """Of the questions' file."""
        return hashlib.sha256((self.directory / QUESTIONS).read_bytes()).hexdigest()

    def _read(self, name: str) -> list[dict[str, Any]]:
        path = self.directory / name
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        except OSError as error:
            raise RerankerError(f"labels {path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RerankerError(f"labels {path}: {error}") from None
