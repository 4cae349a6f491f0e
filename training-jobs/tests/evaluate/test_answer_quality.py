"""The command line from questions to report, against a generator and a retriever that are HTTP servers here."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.evaluate import answer_quality

TEXT = "git stash saves your local modifications away."


def complete(body: dict[str, Any]) -> dict[str, Any]:
    """A cited answer; without its gold document an abstention."""
    withheld = "exclude" in body.get("capstan", {})
    source = {
        "id": 1,
        "title": "Stash",
        "heading": [],
        "text": TEXT,
        "document_id": "other" if withheld else "git/stash",
    }
    details = {"sources": [source], "relevance": 0.2 if withheld else 0.8, "reranked": True}
    if body.get("capstan", {}).get("trace"):
        details["written"] = "" if withheld else f"{TEXT} [1]" if body["model"] == "docs:good" else TEXT
    if withheld:
        message: dict[str, Any] = {"content": "I could not find an answer.", "annotations": []}
        return {"choices": [{"message": message}], "capstan": {**details, "mode": "abstained"}}
    citation = {"start_index": len(TEXT) + 1, "end_index": len(TEXT) + 4, "id": 1}
    message = {"content": f"{TEXT} [1]", "annotations": [{"type": "url_citation", "url_citation": citation}]}
    return {"choices": [{"message": message}], "capstan": {**details, "mode": "generated"}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"name": "default", "options": {}}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/embeddings":
            self._send({"data": [{"embedding": [1.0, 0.0]} for _ in body["input"]]})
        else:
            self._send(complete(body))

    def _send(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    labels = {"answer": TEXT, "documents": ["git/stash"], "sections": [], "source": "git", "license": "", "url": ""}
    rows = [{"id": f"q{n}", "question": f"How {n}?", "withhold": n < 2, "split": "test", **labels} for n in range(4)]
    rows += [{**row, "id": f"dev-{row['id']}", "split": "dev"} for row in rows]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "documents.jsonl").write_text("")
    monkeypatch.setenv("CAPSTAN_IDENTITY_SECRET", "s" * 32)
    monkeypatch.delenv("CAPSTAN_JOBS_API_KEY", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: Any) -> None:
    monkeypatch.setattr("sys.argv", ["answer_quality", *map(str, words)])
    answer_quality.main()


def test_from_questions_to_the_report(
    url: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = ["--url", url, "--labels", room, "--answers", room / "answers"]
    files = ["--out", room / "answers.json", "--ragas", room / "ragas.json", "--hand-check", room / "check.jsonl"]
    run(monkeypatch, "ask", *asking, *files)
    assert '{"answers": 6, "failed": 0, "modes": {"generated": 4, "abstained": 2}}' in capsys.readouterr().out
    run(monkeypatch, "score", *asking, *files, "--retriever", url, "--documents", room / "documents.jsonl")
    run(monkeypatch, "sample", *files, "--answers", room / "answers", "--size", 3)
    lines = [json.loads(line) for line in (room / "check.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    (room / "check.jsonl").write_text("".join(json.dumps({**line, "verdict": True}) + "\n" for line in lines))
    capsys.readouterr()
    run(monkeypatch, "agreement", *files)
    assert json.loads(capsys.readouterr().out)["agreement"] == 1.0
    run(monkeypatch, "card", *files, "--results", room / "rag.json", "--report", room / "rag.md")
    report = json.loads((room / "rag.json").read_text())
    for name in ("citation_precision", "citation_recall", "abstention_precision", "abstention_recall"):
        assert report[name] == 1.0, name
    assert report["context_precision"] == 1.0
    assert report["citation_hand_check"]["precision_by_hand"] == 1.0
    tables = (room / "rag.md").read_text()
    assert all(f"<!-- table:{name} -->" in tables for name in ("citations", "abstention", "context"))


def test_two_writers_are_asked_and_compared(
    url: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = ["--url", url, "--labels", room, "--answers", room / "answers", "--retriever", url]
    run(monkeypatch, "writers", *asking, "--a", "docs:good", "--b", "docs:poor", "--out", room / "writers.json")
    found = json.loads((room / "writers.json").read_text())
    assert (found["a"], found["b"], found["answers"]) == ("docs:good", "docs:poor", 6)
    recall = found["as_written"]["comparison"]["recall"]
    assert (recall["n"], recall["a"], recall["b"]) == (4, 1, 0)
    assert "docs:good - docs:poor" in capsys.readouterr().out


def test_the_threshold_is_found_on_dev_without_a_language_model(
    url: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--answers", room / "answers", "--out", room / "calibration.json"]
    run(monkeypatch, "calibrate", "--url", url, "--labels", room, *out)
    found = json.loads((room / "calibration.json").read_text())
    assert found["all"]["auroc"] == 1.0
    assert found["all"]["recommended"]["min_relevance"] == pytest.approx(0.5)
    asked = [json.loads(line) for line in (room / "answers/docs.jsonl").read_text().splitlines()]
    assert {row["id"].split("-")[0] for row in asked} == {"dev"}
    assert "take min_relevance 0.5" in capsys.readouterr().out


def test_a_stack_that_is_down_is_a_line_not_a_traceback(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = ["--url", "http://127.0.0.1:9", "--labels", room, "--answers", room / "answers"]
    with pytest.raises(SystemExit, match="is the stack up"):
        run(monkeypatch, "ask", *asking)
