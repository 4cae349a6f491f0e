"""A scripted backend for the web page's tests: the real page's files, made-up answers, and a log of what was asked.

It runs on a thread of its own, so that a browser driven from the test's thread can talk to it.
"""

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse

from capstan.common.errors import ApiError, error_body
from capstan.generator.page import page_router

KEY = "demo.a-good-key"
LOG_TEXT = (
    "Shows the commit logs. List commits that are reachable by following the parent links from the given commit(s)."
    " git log --follow continues listing the history of a file beyond renames (works only for a single file)."
)
STASH_TEXT = "Use git stash when you want to record the current state of the working directory and the index."
QUOTE = "git log --follow continues listing the history of a file beyond renames (works only for a single file)."


def document(id: str, title: str, texts: list[tuple[list[str], str]], tenant: str = "shared") -> dict[str, Any]:
    """A document and its chunks, with ids that stay the same."""
    chunks = [
        {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{id}/{n}")), "chunk_index": n, "heading": heading, "text": text}
        for n, (heading, text) in enumerate(texts)
    ]
    return {"id": id, "title": title, "tenant": tenant, "source": "git", "license": "GPL-2.0-only", "chunks": chunks}


def documents() -> list[dict[str, Any]]:
    """Two shared documents, one of them long, and one of the caller's own."""
    options = [(["OPTIONS", f"--option-{n}"], f"Option {n} of git log changes what is listed.") for n in range(70)]
    options[60] = (["OPTIONS", "--follow"], LOG_TEXT)
    return [
        document("git/git-log", "git-log(1)", options),
        document("git/git-stash", "git-stash(1)", [(["DESCRIPTION"], STASH_TEXT)]),
        document("files/notes.md", "Our notes", [([], "We rebase before we merge.")], tenant="demo"),
    ]


@dataclass
class Script:
    """What the model "writes": `pieces` of text, citations by marker, and how the answer ends."""

    pieces: list[str]
    citations: list[tuple[str, int, str]] = field(default_factory=list)
    """(marker's text, source number, quote), in the order in which they stand."""
    unsupported: list[str] = field(default_factory=list)
    mode: str = "generated"
    note: str | None = None
    breaks: str | None = None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


FOLLOW = Script(
    [
        "Use `git log --follow` to list the history of a file, ",
        "also beyond renames. [1]\n\n",
        "```\ngit log --follow -- file.c\n```\n",
        "It is by far the fastest way. ",
        "Changes that you have not committed can be put away with git stash. [2]",
    ],
    citations=[("[1]", 1, QUOTE), ("[2]", 2, STASH_TEXT)],
    unsupported=["It is by far the fastest way."],
)


class Backend:
    """Start with `start()`. Everything that a test may look at or change is an attribute."""

    def __init__(self) -> None:
        self.reset()
        self.app = FastAPI()
        self.app.include_router(page_router())
        _routes(self.app, self)
        self._loop = asyncio.new_event_loop()
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._server.serve(),), daemon=True)

    def reset(self) -> None:
        """As at the start."""
        self.documents = {d["id"]: d for d in documents()}
        self.scripts: dict[str, Script] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.chats: list[dict[str, Any]] = []
        self.feedback: list[dict[str, Any]] = []
        self.aborted = threading.Event()
        self.pause_after: int | None = None
        """Pieces after which a stream waits for `go()`."""
        self.unembedded: dict[str, int] = {}
        """Documents of which so many looks see no vectors; those in `stuck` never get any."""
        self.stuck: set[str] = set()
        self.pending = 0
        self.failing_model: str | None = None
        self.no_stages: tuple[str, ...] = ()
        self._go = threading.Event()
        self.failures: dict[str, ApiError] = {}
        """By path: what a request to it gets instead."""

    def go(self) -> None:
        """Let paused streams go on."""
        self._go.set()

    def start(self) -> "Backend":
        """Serve on a free port; `url` tells where."""
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join()
        self._loop.close()

    def script(self, question: str) -> Script:
        """What is answered to `question`."""
        return self.scripts.get(question, FOLLOW)

    def sources(self) -> list[dict[str, Any]]:
        """The evidence of every answer."""
        found = []
        for number, (id, index) in enumerate((("git/git-log", 60), ("git/git-stash", 0), ("git/git-log", 3)), start=1):
            whole = self.documents.get(id) or documents()[0]
            chunk = whole["chunks"][index]
            source = {key: whole[key] for key in ("title", "source", "license")}
            source["url"] = whole.get("url") or f"git:/{id}"
            place = {"heading": chunk["heading"], "text": chunk["text"], "chunk_id": chunk["id"], "document_id": id}
            relevance = round(0.93 - 0.2 * number, 3)
            found.append({"id": number, "cited": number < 3, "relevance": relevance} | source | place)
        return found

    async def pause(self) -> None:
        """Until `go()`."""
        while not self._go.is_set():
            await asyncio.sleep(0.005)


def _routes(app: FastAPI, backend: Backend) -> None:
    @app.middleware("http")
    async def guard(request: Request, following: Any) -> Any:
        path = request.url.path
        if not path.startswith("/v1/"):
            return await following(request)
        if error := backend.failures.get(path):
            return JSONResponse(error.body(), error.status_code, dict(error.headers or {}))
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse(error_body("the API key is not valid", "authentication_error", "invalid_api_key"), 401)
        return await following(request)

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status_code)

    _chat_routes(app, backend)
    _record_routes(app, backend)
    _document_routes(app, backend)


def _chat_routes(app: FastAPI, backend: Backend) -> None:
    arms = {"default": "BM25 and dense search joined, then reranked", "bm25": "BM25 alone"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": id} for id in ("smollm2-135m", "docs", "docs:bm25", "reranker")]}

    @app.get("/v1/arms")
    async def list_arms() -> dict[str, Any]:
        names = {"default": "docs", "bm25": "docs:bm25"}
        return {"data": [{"name": n, "model": names[n], "description": d, "options": {}} for n, d in arms.items()]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        body = await request.json()
        backend.chats.append(body)
        if body["model"] == backend.failing_model:
            raise ApiError(404, "model_not_found", f"the model {body['model']} does not exist here")
        return StreamingResponse(_stream(backend, body), media_type="text/event-stream")


async def _stream(backend: Backend, body: dict[str, Any]) -> AsyncIterator[str]:
    question = body["messages"][-1]["content"]
    script = backend.script(question)
    id = f"chatcmpl-{uuid.uuid4().hex}"

    def event(delta: dict[str, Any] | None, **extra: Any) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
        return f"data: {json.dumps({'id': id, 'choices': choices} | extra)}\n\n"

    try:
        yield event({"role": "assistant", "content": ""})
        yield event(None, capstan={"stages": stages(backend), "question": question})
        for sent, piece in enumerate(script.pieces):
            if sent == backend.pause_after:
                await backend.pause()
            yield event({"content": piece})
        if script.breaks:
            yield f"data: {json.dumps(error_body(script.breaks, 'upstream_error', 'upstream_died'))}\n\n"
            return
        record = _record(backend, id, question, script, arm=body["model"].partition(":")[2] or "default")
        backend.answers[id] = record
        yield event({"annotations": record["annotations"]}, capstan=record["capstan"])
        yield "data: [DONE]\n\n"
    except (asyncio.CancelledError, GeneratorExit):
        backend.aborted.set()
        raise


def stages(backend: Backend) -> dict[str, Any]:
    """What each stage found: the same passages, in other orders."""
    base = [
        {"chunk_id": s["chunk_id"], "document_id": s["document_id"], "title": s["title"], "heading": s["heading"]}
        | {"text": s["text"][:300]}
        for s in backend.sources()
    ]
    orders = {
        "bm25": ([2, 0, 1], 14.2),
        "dense": ([1, 0], 0.61),
        "fused": ([1, 2, 0], 0.032),
        "reranked": ([0, 1, 2], 0.73),
    }
    return {
        name: [base[i] | {"score": top * (1 - 0.1 * n)} for n, i in enumerate(order) if name not in backend.no_stages]
        for name, (order, top) in orders.items()
    }


def _record(backend: Backend, id: str, question: str, script: Script, arm: str) -> dict[str, Any]:
    text, at, annotations = script.text, 0, []
    sources = backend.sources()
    for marker, number, quote in script.citations:
        at = text.index(marker, at)
        source = sources[number - 1]
        citation = {"start_index": at, "end_index": at + len(marker), "id": number, "quote": quote, "support": 0.92}
        citation |= {key: source[key] for key in ("url", "title", "document_id", "chunk_id")}
        annotations.append({"type": "url_citation", "url_citation": citation})
        at += len(marker)
    weak = [(text.index(s), text.index(s) + len(s)) for s in script.unsupported]
    sentences = [{"text": text[a:b], "start": a, "end": b, "supported": False, "citations": []} for a, b in weak]
    for a in annotations:
        c = a["url_citation"]
        place = {"start": c["start_index"], "end": c["end_index"], "text": text[c["start_index"] : c["end_index"]]}
        sentences.append(place | {"supported": True, "citations": [c["id"]], "support": 0.92})
    capstan = {"mode": script.mode, "note": script.note, "reranked": True, "rerank_note": None, "relevance": 0.73}
    capstan |= {"sources": sources, "sentences": sentences, "arm": arm, "question": question}
    capstan |= {"timings_ms": {"evidence": 41.2, "first_text": 118.0, "answer": 1450.0}, "grounded": 0.667}
    return {
        "id": id,
        "created": 1700000000 + len(backend.answers),
        "model": "docs",
        "question": question,
        "answer": text,
        "annotations": annotations,
        "capstan": capstan,
    }


def _record_routes(app: FastAPI, backend: Backend) -> None:
    @app.get("/v1/answers")
    async def answers() -> dict[str, Any]:
        fields = ("id", "created", "model", "question", "answer")
        summaries = [{field: record[field] for field in fields} for record in backend.answers.values()]
        return {"data": summaries[::-1], "next": None}

    @app.get("/v1/answers/{id}")
    async def answer(id: str) -> dict[str, Any]:
        if id not in backend.answers:
            raise ApiError(404, "answer_not_found", f"there is no answer {id!r}")
        return backend.answers[id]

    @app.delete("/v1/answers/{id}")
    async def forget(id: str) -> dict[str, Any]:
        backend.answers.pop(id)
        return {"id": id, "deleted": True}

    @app.post("/v1/feedback")
    async def feedback(request: Request) -> dict[str, Any]:
        backend.feedback.append(await request.json())
        return {"id": str(len(backend.feedback))}

    @app.get("/v1/feedback/report")
    async def report() -> dict[str, Any]:
        pair = {"a": "default", "b": "bm25", "impressions": 12, "clicks_a": 9, "clicks_b": 2, "wins_a": 8, "wins_b": 1}
        thumbs = {"arm": "default", "up": 5, "down": 1, "share_up": 0.833, "ci95": [0.44, 0.97]}
        return {"pairs": [pair | {"ties": 1, "p_value": 0.039}], "thumbs": [thumbs]}

    @app.post("/v1/interleave")
    async def interleave(request: Request) -> dict[str, Any]:
        body = await request.json()
        found = [
            {"id": s["chunk_id"], "score": 1.0, "chunk_index": {1: 60, 2: 0, 3: 3}[s["id"]]}
            | {key: s[key] for key in ("document_id", "title", "heading", "text", "url", "source", "license")}
            for s in backend.sources()
        ]
        return {"id": "interleaving-1", "results": found[: body["limit"]]}


def _document_routes(app: FastAPI, backend: Backend) -> None:
    def out(document: dict[str, Any]) -> dict[str, Any]:
        chunks = len(document["chunks"])
        missing = backend.unembedded.get(document["id"], 0)
        backend.unembedded[document["id"]] = max(0, missing - 1)
        missing = chunks if document["id"] in backend.stuck else missing
        same = {key: document[key] for key in ("id", "tenant", "title")}
        return same | {"revision": "1", "chunks": chunks, "embedded": chunks - min(missing, chunks)}

    @app.get("/v1/index")
    async def index() -> dict[str, Any]:
        chunks = sum(len(d["chunks"]) for d in backend.documents.values())
        left = 120.0 if backend.pending else None
        pending = {
            "pending": backend.pending,
            "embedded": chunks - backend.pending,
            "embedding_per_s": 0,
            "eta_s": left,
        }
        return {
            "documents": len(backend.documents),
            "chunks": chunks,
            "model": "m",
            "runtime": "r",
            "store": "edge",
        } | pending

    @app.get("/v1/documents")
    async def list_documents(own: bool = False, limit: int = 100, cursor: str = "0") -> dict[str, Any]:
        readable = [d for d in backend.documents.values() if not own or d["tenant"] != "shared"]
        end = int(cursor) + limit
        following = str(end) if end < len(readable) else None
        return {"data": [out(d) for d in readable[int(cursor) : end]], "next": following}

    @app.get("/v1/documents/{id:path}")
    async def one(id: str) -> dict[str, Any]:
        if id not in backend.documents:
            raise ApiError(404, "document_not_found", f"there is no document {id!r}")
        return out(backend.documents[id])

    @app.delete("/v1/documents/{id:path}")
    async def delete(id: str) -> dict[str, Any]:
        return {"id": id, "deleted": True, "chunks": len(backend.documents.pop(id)["chunks"])}

    @app.post("/v1/files")
    async def upload(file: UploadFile) -> dict[str, Any]:
        name, content = file.filename or "", await file.read()
        if name.endswith(".exe"):
            raise ApiError(415, "unsupported_file", f"{name} cannot be read: send html, md or pdf")
        if not content:
            raise ApiError(422, "unreadable_file", f"{name} holds no text; a scan needs its text recognized first")
        id = f"files/{name}"
        status = "updated" if id in backend.documents else "created"
        text = content.decode()
        chunks = [([], piece) for piece in text.split("\n\n")]
        backend.documents[id] = document(id, name, chunks, tenant="demo") | {"source": "upload", "license": None}
        return {"id": id, "title": name, "status": status, "chunks": len(chunks)}

    @app.get("/v1/chunks")
    async def chunks(request: Request) -> dict[str, Any]:
        query = request.query_params
        if (found := backend.documents.get(query["document_id"])) is None:
            raise ApiError(404, "document_not_found", f"there is no document {query['document_id']!r}")
        start, limit = int(query["from"]), int(query["limit"])
        following = start + limit if start + limit < len(found["chunks"]) else None
        return {"document": out(found), "data": found["chunks"][start : start + limit], "next": following}
