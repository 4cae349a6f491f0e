import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.evaluate.__main__ import main

Run = Callable[..., int]


@pytest.fixture
def run(
    search: Any, labels: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> Run:
    monkeypatch.setenv("CAPSTAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CAPSTAN_IDENTITY_SECRET", secret)

    def command(name: str, *arguments: str) -> int:
        given = [name, "--recipe", str(recipe_file), "--labels", str(labels), *arguments]
        monkeypatch.setattr(sys, "argv", ["evaluate", *given])
        return main()

    return command


def completion(content: str, documents: list[str], mode: str = "generated") -> tuple[int, dict[str, Any]]:
    sources = [{"id": n, "document_id": document, "text": content} for n, document in enumerate(documents, 1)]
    sentences = [{"text": content, "supported": True, "citations": [1]}]
    details = {"mode": mode, "sources": sources, "sentences": sentences}
    return 200, {"choices": [{"message": {"content": content}}], "capstan": details}


def test_answers_of_two_arms_are_compared_on_what_both_have(
    run: Run, search: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    search.answers = {"docs": completion("words", ["d1"]), "docs:bm25": completion("", ["d2"], mode="abstained")}
    rows = tmp_path / "rows.jsonl"
    assert run("ab", "--answers", search.url, "--a", "default", "--b", "bm25", "--rows", str(rows)) == 0
    out = capsys.readouterr().out
    assert "| answer_words | 0 |" in out  # one of them never answers: nothing is compared, and nothing made up
    assert "| answered | 3 | 1.000 | 0.000 |" in out
    assert "3 questions, 0 answers failed" in out
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["context_precision"] for row in found] == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_answers_that_failed_are_counted_and_not_scored(run: Run, search: Any, capsys: pytest.CaptureFixture[str]):
    search.answers = {"docs": completion("words", ["d1"]), "docs:bm25": (400, {"error": {"message": "no"}})}
    assert run("ab", "--answers", search.url, "--a", "default", "--b", "bm25") == 0
    out = capsys.readouterr().out
    assert "3 questions, 3 answers failed" in out
    assert "| answered | 0 |" in out


def test_the_feedback_report_is_shown_as_tables(run: Run, search: Any, capsys: pytest.CaptureFixture[str]):
    search.feedback = {"pairs": [], "thumbs": [{"arm": "default", "up": 3, "share_up": 0.75, "ci95": None}]}
    assert run("feedback", "--url", search.url) == 0
    out = capsys.readouterr().out
    assert "| default | 3 | 0.750 |  |" in out
    assert "pairs: none yet" in out


def test_a_generator_that_is_not_there_is_one_line(run: Run, capsys: pytest.CaptureFixture[str]):
    assert run("feedback", "--url", "http://127.0.0.1:9") == 2
    assert "does not answer" in capsys.readouterr().err
