import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from capstan.common.identity import IDENTITY_HEADER, Signer

SECRET = "a secret of at least thirty-two bytes"


class FakeSearch(ThreadingHTTPServer):
    """Retriever, reranker and generator in one, over real HTTP.

    `lists` are ranked chunks by mode; `d1/0` is d1's first.
    The reranker's score of a text is the number of words that it shares with the query.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lists: dict[str, list[str]] = {}
        self.texts: dict[str, str] = {}
        self.requests: list[tuple[str, Any]] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self.feedback: dict[str, Any] = {}
        self.overloads = 0
        self.coverage = 1.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self) -> Counter[str]:
        return Counter(path for path, _ in self.requests)

    def chunk(self, name: str) -> dict[str, Any]:
        document, _, index = name.partition("/")
        text = self.texts.get(name, f"text of {name}")
        return {
            "id": name,
            "document_id": document,
            "chunk_index": int(index),
            "title": document,
            "heading": [],
            "text": text,
        }


class Handler(BaseHTTPRequestHandler):
    server: FakeSearch
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        Signer(SECRET).verify(self.headers.get(IDENTITY_HEADER))
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.server.requests.append((url.path, query))
        if url.path == "/v1/index":
            self.answer(200, {"documents": 3, "chunks": 6, "embedded": 6, "pending": 0, "model": "m"})
        elif url.path == "/v1/models":
            self.answer(200, {"data": [{"id": "words"}]})
        elif url.path == "/v1/arms":
            self.answer(200, {"data": [{"name": "default", "options": {}}, {"name": "bm25", "options": {}}]})
        elif url.path == "/v1/feedback/report":
            self.answer(200, self.server.feedback)
        elif url.path == "/v1/chunks":
            self.chunks(query)
        elif url.path == "/v1/documents":
            documents = sorted({name.partition("/")[0] for name in self.server.texts})
            self.answer(200, {"data": [{"id": document} for document in documents], "next": None})
        else:
            self.answer(404, {"error": {"message": "no such route"}})

    def chunks(self, query: dict[str, str]) -> None:
        document, first, limit = query["document_id"], int(query["from"]), int(query["limit"])
        names = sorted(name for name in self.server.texts if name.startswith(f"{document}/"))
        data = [self.server.chunk(name) for name in names[first : first + limit]]
        following = first + limit if first + limit < len(names) else None
        self.answer(200, {"document": {"title": document}, "data": data, "next": following})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Signer(SECRET).verify(self.headers.get(IDENTITY_HEADER))
        self.server.requests.append((self.path, body))
        if self.server.overloads:
            self.server.overloads -= 1
            self.answer(503, {"error": {"message": "busy"}})
        elif self.path == "/v1/chat/completions":
            status, answer = self.server.answers[body["model"]]
            self.answer(status, answer)
        elif self.path == "/v1/search":
            names = [n for n in self.server.lists[body["mode"]] if n.partition("/")[0] not in body.get("exclude", [])]
            results = [{**self.server.chunk(name), "score": 1 / rank} for rank, name in enumerate(names, 1)]
            self.answer(200, {"dense_coverage": self.server.coverage, "results": results[: body["limit"]]})
        else:
            wanted = set(body["query"].split())
            texts = [d["text"] if isinstance(d, dict) else d for d in body["documents"]]
            scores = [len(wanted & set(text.split())) for text in texts]
            order = sorted(range(len(scores)), key=lambda place: -scores[place])
            self.answer(200, {"results": [{"index": place, "relevance_score": scores[place]} for place in order]})


@pytest.fixture
def search() -> Iterator[FakeSearch]:
    with FakeSearch() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def secret() -> str:
    return SECRET


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Three dev questions: a, b and c, whose gold documents are d1, d2 and d3."""
    rows = [
        {
            "id": name,
            "question": f"where is {name}",
            "heading": name,
            "answer": f"answer {name} words",
            "documents": [document],
            "source": "s",
            "split": "dev",
        }
        for name, document in (("a", "d1"), ("b", "d2"), ("c", "d3"))
    ]
    directory = tmp_path / "labels"
    directory.mkdir()
    (directory / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


RECIPE = """
seed: 1
passages: 2
evidence_tokens: 64
single: [bm25, dense]
indexes: {default: {}}
rerankers: {default: {}}
arms:
  default: {change: reranked}
  hybrid: {change: no reranker, rerank: null}
  bm25: {base: hybrid, change: BM25 alone, mode: bm25}
  dense: {base: hybrid, change: dense alone, mode: dense}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path
