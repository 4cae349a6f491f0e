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
    search.lists = {
        "bm25": ["d1/0", "d2/0", "d3/0"],
        "dense": ["d3/0", "d2/0", "d1/0"],
        "hybrid": ["d2/0", "d1/0", "d3/0"],
    }
    search.texts = {"d1/0": "a", "d2/0": "b", "d3/0": "c"}
    monkeypatch.setenv("CAPSTAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CAPSTAN_IDENTITY_SECRET", secret)

    def command(name: str, *arguments: str) -> int:
        services = ["--retriever", search.url, "--reranker", search.url]
        given = [name, "--recipe", str(recipe_file), "--labels", str(labels), *services, *arguments]
        monkeypatch.setattr(sys, "argv", ["evaluate", *given])
        return main()

    return command


def test_run_writes_the_results_and_the_tables(run: Run, tmp_path: Path):
    results, report = tmp_path / "rag.json", tmp_path / "rag.md"
    report.write_text("# RAG\n\n<!-- table:retrieval -->\n<!-- /table -->\n\ntext\n")
    assert run("run", "--split", "dev", "--results", str(results), "--report", str(report)) == 0
    written = json.loads(results.read_text())
    assert written["questions"] == 3
    assert written["best_single"] in ("bm25", "dense")
    default = written["arms"]["default"]
    assert default["n"] == 3
    assert default["success1"] == 1.0  # the fake reranker reads the document's name out of the question
    assert {"ndcg10", "recall5", "ci95", "p_vs_best_single", "buckets"} <= set(default)
    assert written["arms"]["hybrid"]["vs_base"]["worse"] == 2
    assert written["arms"]["hybrid"]["p_holm"] >= written["arms"]["hybrid"]["vs_base"]["p"]
    text = report.read_text()
    assert "| default | 1.000 |" in text
    assert text.index("table:retrieval") < text.index("text") < text.index("table:ablations")


def test_tune_prints_and_writes_no_results(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("tune", "--arms", "hybrid,bm25") == 0
    assert "| bm25 |" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.json"))


def test_ab_compares_two_arms_and_keeps_the_rows(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = tmp_path / "rows.jsonl"
    assert run("ab", "--a", "default", "--b", "mode=bm25,rerank=null", "--rows", str(rows)) == 0
    out = capsys.readouterr().out
    assert "better 2, equal 1, worse 0 of 3" in out
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [(row["arm"], row["question"]) for row in found[3:]] == [("mode=bm25,rerank=null", name) for name in "abc"]
    assert found[5]["bucket"] == "top10"


def test_known_items_are_scored_apart(run: Run, labels: Path, capsys: pytest.CaptureFixture[str]):
    items = [{"id": "t", "kind": "title", "question": "c", "documents": ["d3"]}]
    (labels / "known_items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    assert run("known-items", "--arms", "dense") == 0
    assert "title: 1 queries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "--arms", "bm52"], "there is no arm 'bm52'"),
        (["ab", "--a", "bm25", "--b", "bm25"], "the same arm"),
        (["run", "--labels", "/nowhere"], "build the labels"),
        (["tune", "--recipe", "/nowhere.yaml"], "cannot be read"),
        (["tune", "--retriever", "http://127.0.0.1:9"], "does not answer"),
    ],
)
def test_a_mistake_is_one_line(run: Run, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert run(*arguments) == 2
    assert message in (error := capsys.readouterr().err)
    assert "Traceback" not in error


def test_a_retriever_that_cannot_be_started_says_how_to_name_one(
    labels: Path,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "manifest.json").write_text('{"documents_sha256": "x"}')
    monkeypatch.setenv("CAPSTAN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("CAPSTAN_NATIVE_SERVICES_PYTHON", raising=False)
    given = ["tune", "--recipe", str(recipe_file), "--labels", str(labels), "--corpus", str(corpus), "--arms", "bm25"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *given])
    assert main() == 2
    assert "--retriever default=URL" in capsys.readouterr().err
