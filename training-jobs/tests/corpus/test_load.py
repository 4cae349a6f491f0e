import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from capstan.common.identity import IDENTITY_HEADER, Signer
from capstan.jobs.corpus.build import build_folder
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.load import BATCH_BYTES, Retriever, load_corpus
from capstan.jobs.corpus.manifest import DOCUMENTS
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.corpus.watch import Watch

SECRET = "a secret of at least thirty-two bytes"


class FakeRetriever(ThreadingHTTPServer):
    """The retriever's documents API, in memory, over real HTTP. Pages hold at most 50 documents."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tenants: dict[str, dict[str, dict[str, Any]]] = {}
        self.posts: list[int] = []
        self.bodies: list[int] = []
        self.overloads = 0
        self.refusal: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def documents(self, tenant: str = "shared") -> dict[str, dict[str, Any]]:
        return self.tenants.setdefault(tenant, {})


class Handler(BaseHTTPRequestHandler):
    server: FakeRetriever
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        identity = Signer(SECRET).verify(self.headers.get(IDENTITY_HEADER))
        if self.server.overloads:
            self.server.overloads -= 1
            self.answer(503, {"error": {"message": "busy"}}, retry_after="2")
        elif self.server.refusal:
            status, message = self.server.refusal
            self.answer(status, {"error": {"message": message, "type": "t", "param": None, "code": "c"}})
        else:
            getattr(self, self.command.lower())(identity.tenant, self.server.documents(identity.tenant), body)

    do_GET = do_POST = do_DELETE = handle_request

    def get(self, tenant: str, documents: dict[str, dict[str, Any]], body: bytes) -> None:
        query = parse_qs(urlsplit(self.path).query)
        size = min(int(query["limit"][0]), 50)
        start = int(query.get("cursor", ["0"])[0])
        readable = [(t, d) for t in {tenant, "shared"} for d in self.server.documents(t).values()]
        rows = [{"id": d["id"], "tenant": t, "revision": d["revision"]} for t, d in readable]
        rows.sort(key=lambda row: (row["tenant"], row["id"]))
        following = str(start + size) if start + size < len(rows) else None
        self.answer(200, {"data": rows[start : start + size], "next": following})

    def post(self, tenant: str, documents: dict[str, dict[str, Any]], body: bytes) -> None:
        results = []
        sent = json.loads(body)["documents"]
        self.server.posts.append(len(sent))
        self.server.bodies.append(len(body))
        for document in sent:
            known = documents.get(document["id"])
            status = "created" if known is None else "updated"
            documents[document["id"]] = document
            results.append({"id": document["id"], "status": status, "chunks": 1})
        self.answer(200, {"results": results})

    def delete(self, tenant: str, documents: dict[str, dict[str, Any]], body: bytes) -> None:
        found = documents.pop(unquote(urlsplit(self.path).path.removeprefix("/v1/documents/")), None)
        self.answer(204 if found else 404)


@pytest.fixture
def server() -> Iterator[FakeRetriever]:
    with FakeRetriever() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(150):
        (folder / f"page {number}.md").write_text(f"# Page {number}\n\nText {number}.\n")
    return folder


@pytest.fixture
def corpus(folder: Path, tmp_path: Path, steps: Steps) -> Path:
    build_folder(folder, tmp_path / "corpus", steps, processes=1)
    return tmp_path / "corpus"


def load(server: FakeRetriever, corpus: Path, steps: Steps, *, tenant: str = "shared", prune: bool = False) -> str:
    with Retriever(server.url, tenant, SECRET, sleep=lambda seconds: None) as retriever:
        return str(load_corpus(corpus, retriever, steps, prune=prune))


def test_all_documents_arrive_in_batches(
    server: FakeRetriever, corpus: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capstan.jobs.corpus.load.BATCH_DOCUMENTS", 64)
    assert load(server, corpus, steps) == "documents: 150 created, 0 updated, 0 unchanged, 0 deleted"
    assert server.posts == [64, 64, 22]
    sent = [json.loads(line) for line in (corpus / DOCUMENTS).read_text().splitlines()]
    assert list(server.documents().values()) == sent


def test_a_second_load_sends_nothing(server: FakeRetriever, corpus: Path, steps: Steps) -> None:
    load(server, corpus, steps)
    server.posts.clear()
    assert load(server, corpus, steps) == "documents: 0 created, 0 updated, 150 unchanged, 0 deleted"
    assert server.posts == []


def test_only_what_changed_is_sent(server: FakeRetriever, corpus: Path, folder: Path, steps: Steps) -> None:
    load(server, corpus, steps)
    (folder / "page 7.md").write_text("# Page 7\n\nAnother text.\n")
    (folder / "new.md").write_text("# New\n\nNew text.\n")
    (folder / "page 9.md").unlink()
    build_folder(folder, corpus, steps, processes=1)
    server.posts.clear()
    assert load(server, corpus, steps) == "documents: 1 created, 1 updated, 148 unchanged, 0 deleted"
    assert server.posts == [2]
    assert "docs/page 9.md" in server.documents()
    assert load(server, corpus, steps, prune=True) == "documents: 0 created, 0 updated, 150 unchanged, 1 deleted"
    assert "docs/page 9.md" not in server.documents()


def test_pruning_leaves_other_tenants_alone(server: FakeRetriever, corpus: Path, steps: Steps) -> None:
    server.documents("acme")["theirs"] = {"id": "theirs", "revision": "1"}
    server.documents("shared")["old/ä?#%2F.md"] = {"id": "old/ä?#%2F.md", "revision": "1"}
    assert load(server, corpus, steps, prune=True).endswith("1 deleted")
    assert len(server.documents("shared")) == 150
    assert set(server.documents("acme")) == {"theirs"}


def test_shared_documents_are_not_the_tenants_own(server: FakeRetriever, corpus: Path, steps: Steps) -> None:
    load(server, corpus, steps)
    server.documents("shared")["more"] = {"id": "more", "revision": "1"}
    created = "documents: 150 created, 0 updated, 0 unchanged, 0 deleted"
    assert load(server, corpus, steps, tenant="acme", prune=True) == created
    assert len(server.documents("shared")) == 151


def test_large_documents_make_small_batches(server: FakeRetriever, folder: Path, tmp_path: Path, steps: Steps) -> None:
    for number in range(6):
        (folder / f"big {number}.txt").write_text(f"{number} " + "word " * (BATCH_BYTES // 12))
    build_folder(folder, tmp_path / "corpus", steps, processes=1)
    load(server, tmp_path / "corpus", steps)
    assert len(server.documents()) == 156
    assert max(server.bodies) <= BATCH_BYTES + 1024


def test_an_overloaded_retriever_is_waited_for(server: FakeRetriever, corpus: Path, steps: Steps) -> None:
    waits: list[float] = []
    server.overloads = 3
    with Retriever(server.url, "shared", SECRET, sleep=waits.append) as retriever:
        load_corpus(corpus, retriever, steps, prune=False)
    assert waits == [2.0, 2.0, 2.0]
    assert len(server.documents()) == 150


def test_a_retriever_that_stays_overloaded(server: FakeRetriever, corpus: Path, steps: Steps) -> None:
    server.overloads = 10**6
    with pytest.raises(CorpusError, match="stayed overloaded; run this again later"):
        load(server, corpus, steps)


def test_an_error_is_passed_on_in_one_line(server: FakeRetriever, corpus: Path, steps: Steps) -> None:
    server.refusal = (413, "the body is\nlarger than 4 MiB")
    with pytest.raises(CorpusError, match="answered 413: the body is larger than 4 MiB"):
        load(server, corpus, steps)


def test_a_retriever_that_is_down(corpus: Path, steps: Steps) -> None:
    with FakeRetriever() as closed:
        url = closed.url
    with (
        pytest.raises(CorpusError, match=r"does not answer .*; is it running\?"),
        Retriever(url, "shared", SECRET) as retriever,
    ):
        load_corpus(corpus, retriever, steps, prune=False)


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "ftp://host", "http://[", ""])
def test_not_a_url(url: str, corpus: Path, steps: Steps) -> None:
    with pytest.raises(CorpusError, match="retriever"), Retriever(url, "shared", SECRET) as retriever:
        load_corpus(corpus, retriever, steps, prune=False)


def test_a_damaged_or_missing_corpus(server: FakeRetriever, corpus: Path, tmp_path: Path, steps: Steps) -> None:
    with pytest.raises(CorpusError, match=r"holds no corpus .*; run build first"):
        load(server, tmp_path / "nowhere", steps)
    with (corpus / DOCUMENTS).open("ab") as file:
        file.write(b"{}")
    with pytest.raises(CorpusError, match=r"is not the file that .* describes; run build again"):
        load(server, corpus, steps)
    assert server.posts == []


def test_progress_is_plain_lines_without_a_terminal(
    server: FakeRetriever, corpus: Path, steps: Steps, log: io.StringIO
) -> None:
    load(server, corpus, steps)
    assert "load: 150 documents\nload: done in " in log.getvalue()
    assert "\x1b" not in log.getvalue()
    assert "\r" not in log.getvalue()


def test_a_watched_folder_is_followed(
    server: FakeRetriever, folder: Path, tmp_path: Path, steps: Steps, log: io.StringIO
) -> None:
    changes = [lambda: (folder / "new.md").write_text("# New\n\nText.\n"), (folder / "page 3.md").unlink, lambda: None]
    seen: list[set[str]] = []

    def wait(seconds: float) -> None:
        assert seconds == 7
        assert (tmp_path / "loaded").exists()
        seen.append(set(server.documents()))
        changes[len(seen) - 1]()

    with Retriever(server.url, "shared", SECRET) as retriever:
        watch = Watch(folder, tmp_path / "corpus", retriever, steps, tmp_path / "loaded", prune=True)
        watch.run(7, wait, rounds=3)
    assert [len(documents) for documents in seen] == [150, 151, 150]
    assert seen[1] - seen[0] == {"docs/new.md"}
    assert seen[1] - seen[2] == {"docs/page 3.md"}


def test_watching_outlives_the_retriever_and_says_so_once(
    server: FakeRetriever, folder: Path, tmp_path: Path, steps: Steps, log: io.StringIO
) -> None:
    server.refusal = (500, "out of disk")
    rounds: list[bool] = []

    def wait(_: float) -> None:
        rounds.append((tmp_path / "loaded").exists())
        if len(rounds) == 3:
            server.refusal = None

    with Retriever(server.url, "shared", SECRET) as retriever:
        Watch(folder, tmp_path / "corpus", retriever, steps, tmp_path / "loaded", prune=True).run(7, wait, rounds=5)
    assert rounds == [False, False, False, True, True]
    assert log.getvalue().count("out of disk; tried again every 7 s") == 1
    assert len(server.documents()) == 150


def test_a_change_while_the_retriever_is_away_is_not_forgotten(
    server: FakeRetriever, folder: Path, tmp_path: Path, steps: Steps
) -> None:
    def wait(_: float) -> None:
        if not (folder / "new.md").exists():
            (folder / "new.md").write_text("# New\n\nText.\n")
            server.refusal = (500, "out of disk")
        else:
            server.refusal = None

    with Retriever(server.url, "shared", SECRET) as retriever:
        Watch(folder, tmp_path / "corpus", retriever, steps, tmp_path / "loaded", prune=True).run(7, wait, rounds=3)
    assert "docs/new.md" in server.documents()
