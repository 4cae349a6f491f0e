"""Uploads, with real files of every kind and with those that are made to do harm."""

import asyncio
import io
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pdf_files import make_pdf
from pypdf import PdfReader, PdfWriter

from capstan.common.identity import IDENTITY_HEADER
from capstan.retriever.extraction import Extraction
from capstan.retriever.files import file_name
from capstan.retriever.state import Retriever

Client = Callable[[str | None], httpx2.AsyncClient]
MIB = 2**20
CRASHES = """
import os
from capstan.extract import formats
from capstan.retriever import extractor

extract = formats.extract
formats.extract = lambda path, *rest: os._exit(9) if b"crash" in path.read_bytes() else extract(path, *rest)
extractor.main()
"""


@pytest.fixture(autouse=True)
async def _no_process_is_left(retriever: Retriever) -> AsyncIterator[None]:
    yield
    await retriever.extraction.close()


def bounds(retriever: Retriever, **changed: Any) -> None:
    """Give the extraction other bounds, or another command."""
    kept = {"seconds": 60.0, "memory_bytes": 1024 * MIB, "max_characters": 32 * MIB}
    retriever.extraction = Extraction(**{**kept, **changed})


async def upload(client: httpx2.AsyncClient, name: str, content: bytes | str, **fields: str) -> httpx2.Response:
    data = content.encode() if isinstance(content, str) else content
    return await client.post("/v1/files", files={"file": (name, data)}, data=fields)


async def texts(client: httpx2.AsyncClient, document_id: str) -> list[tuple[list[str], str]]:
    answer = await client.get("/v1/chunks", params={"document_id": document_id})
    assert answer.status_code == 200
    return [(chunk["heading"], chunk["text"]) for chunk in answer.json()["data"]]


def message(response: httpx2.Response) -> str:
    return str(response.json()["error"]["message"])


def encrypted(algorithm: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf([["Secret."]]))))
    writer.encrypt("password", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def pdf_with_stream(content: bytes) -> bytes:
    """A page whose compressed content stream is this."""
    packed = zlib.compress(content, 9)
    plain = make_pdf([["x"]])
    begin = plain.index(b"<< /Length")
    end = plain.index(b"endstream")
    return plain[:begin] + b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\n" % (len(packed), packed) + plain[end:]


@pytest.mark.parametrize(
    ("name", "content", "title", "found"),
    [
        ("guide.html", "<title>Site</title><h1>Guide</h1><h2>Wheel</h2><p>Turn the wheel.</p>", "Guide", ["Wheel"]),
        ("guide.MD", "# Guide\n\n## Wheel\n\nTurn the *wheel*.\n", "Guide", ["Wheel"]),
        ("guide.rst", "Guide\n=====\n\nIntro.\n\nWheel\n-----\n\nTurn the wheel.\n", "Guide", ["Wheel"]),
        ("guide.txt", "Guide\n\nTurn the wheel.\n", "Guide", []),
        ("guide.pdf", make_pdf([["Turn the wheel."]], "Guide"), "Guide", []),
    ],
    ids=["html", "md", "rst", "txt", "pdf"],
)
async def test_a_file_of_each_kind_is_found_by_its_text(
    as_tenant: Client, name: str, content: bytes | str, title: str, found: list[str]
) -> None:
    a = as_tenant("a")
    answer = await upload(a, name, content)
    assert answer.status_code == 200
    assert answer.json() | {"chunks": 1} == {"id": f"files/{name}", "title": title, "status": "created", "chunks": 1}
    (hit,) = (await a.post("/v1/search", json={"query": "wheel", "mode": "bm25"})).json()["results"]
    assert (hit["title"], hit["heading"], hit["text"]) == (title, found, "Turn the wheel.")
    assert (hit["source"], hit["url"], hit["license"]) == ("upload", f"upload:{name}", None)


async def test_the_same_name_again_updates_without_loss_or_duplicates(as_tenant: Client) -> None:
    a = as_tenant("a")
    sections = [f"## Part {n}\n\n{'word ' * 50}{n}\n\n" for n in range(4)]
    assert (await upload(a, "big.md", "# Big\n\n" + "".join(sections))).json()["chunks"] == 4
    again = await upload(a, "big.md", "# Big\n\n" + "".join(sections))
    assert again.json()["status"] == "unchanged"
    changed = await upload(a, "big.md", "# Big\n\n" + "".join([*sections[:2], f"## New\n\n{'news ' * 50}\n"]))
    assert changed.json() == {"id": "files/big.md", "title": "Big", "status": "updated", "chunks": 3}
    assert [heading for heading, _ in await texts(a, "files/big.md")] == [["Part 0"], ["Part 1"], ["New"]]
    assert (await a.get("/v1/index")).json()["chunks"] == 3


async def test_a_version_that_cannot_be_read_leaves_the_one_before(as_tenant: Client) -> None:
    a = as_tenant("a")
    whole = make_pdf([["Turn the wheel."]])
    await upload(a, "a.pdf", whole)
    assert (await upload(a, "a.pdf", whole[:300])).status_code == 422
    assert [text for _, text in await texts(a, "files/a.pdf")] == ["Turn the wheel."]


async def test_uploads_of_one_name_at_once_leave_one_of_them_whole(as_tenant: Client) -> None:
    a = as_tenant("a")
    versions = ["".join(f"## Part {n}\n\n{f'v{v} ' * 40}\n\n" for n in range(v + 1)) for v in range(4)]
    answers = await asyncio.gather(*(upload(a, "x.md", version) for version in versions))
    assert sorted(answer.json()["status"] for answer in answers) == ["created", "updated", "updated", "updated"]
    stored = await texts(a, "files/x.md")
    assert len({text.split()[0] for _, text in stored}) == 1
    assert len(stored) == int(stored[0][1][1]) + 1
    assert (await a.get("/v1/index")).json()["chunks"] == len(stored)


async def test_tenants_do_not_meet(as_tenant: Client) -> None:
    a, b = as_tenant("a"), as_tenant("b")
    await upload(a, "plan.txt", "The plan of A.")
    route = "/v1/documents/files/plan.txt"
    for answer in (
        await b.get(route),
        await b.delete(route),
        await b.get("/v1/chunks", params={"document_id": "files/plan.txt"}),
    ):
        assert answer.status_code == 404
    assert (await b.post("/v1/search", json={"query": "plan", "mode": "bm25"})).json()["results"] == []
    assert (await upload(b, "plan.txt", "The plan of B.")).json()["status"] == "created"
    assert (await b.delete(route)).status_code == 200
    assert [text for _, text in await texts(a, "files/plan.txt")] == ["The plan of A."]
    assert (await as_tenant(None).post("/v1/files", files={"file": ("x.txt", b"x")})).status_code == 401


async def test_id_and_title_of_your_own(as_tenant: Client) -> None:
    a = as_tenant("a")
    answer = await upload(a, "a.txt", "Text.", id="handbook/a", title=" My\ttitle ")
    assert (answer.json()["id"], answer.json()["title"]) == ("handbook/a", "My title")


@pytest.mark.parametrize("id", ["../x", "a/../b", "a//b", "/a", "a\nb", "x" * 513, "files/\u202e.txt"])
async def test_an_id_that_would_not_survive_a_url_is_refused(as_tenant: Client, id: str) -> None:
    answer = await upload(as_tenant("a"), "a.txt", "Text.", id=id)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_id")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\Notes 1.md", "Notes 1.md"),
        ("cafe\u0301.txt", "caf\u00e9.txt"),
        ("a\x00b\r\n\u202ec.txt", "ab c.txt"),
        ("..", ".."),  # of no supported kind
    ],
)
def test_a_name_is_the_last_part_of_a_path_without_what_nobody_sees(sent: str, kept: str) -> None:
    assert file_name(sent) == kept


def test_long_names_are_cut_and_stay_distinct() -> None:
    names = {file_name("é" * 400 + end + ".pdf") for end in "ab"}
    assert len(names) == 2
    assert all(len(name) <= 255 and name.endswith(".pdf") for name in names)


CANNOT = [
    ("report.docx", b"PK\x03\x04", 415, "unsupported_file", "report.docx is of no supported kind; these are: html"),
    ("README", b"text", 415, "unsupported_file", "pdf"),
    ("..", b"text", 415, "unsupported_file", "pdf"),
    ("a.txt", b"", 422, "empty_file", "a.txt is empty"),
    ("a.txt", b" \n\n ", 422, "unreadable_file", "a.txt: it holds no text"),
    ("a.html", b"<script>1</script>", 422, "unreadable_file", "no text"),
    ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", 422, "unreadable_file", "a.txt: binary data, not text"),
    ("a.md", make_pdf([["x"]]), 422, "unreadable_file", "a.md: it is a PDF; let its name end in .pdf"),
    ("a.pdf", b"<html>login</html>", 422, "unreadable_file", "a.pdf: it is not a PDF"),
    ("a.pdf", make_pdf([[]]), 422, "unreadable_file", "a.pdf: holds no text (a scan needs OCR first)"),
    ("a.pdf", make_pdf([["x"]])[:250], 422, "unreadable_file", "a.pdf: not readable as PDF"),
    ("a.pdf", encrypted("RC4-128"), 422, "unreadable_file", "a.pdf: needs a password"),
    ("a.pdf", pdf_with_stream(b"\0" * 300 * MIB), 422, "unreadable_file", "a.pdf: not readable as PDF"),
]


async def test_what_cannot_be_indexed_says_why(as_tenant: Client) -> None:
    a = as_tenant("a")
    for name, content, status, code, said in CANNOT:
        answer = await upload(a, name, content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert said in message(answer)
    assert 'capstan_retriever_files_total{outcome="unsupported_file"} 3.0' in (await a.get("/metrics")).text
    assert (await a.get("/v1/index")).json()["documents"] == 0


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"data": {"title": "x"}}, "in the field file"),
        ({"json": {"file": "x"}}, "in the field file"),
        ({"files": {"document": ("a.txt", b"x")}}, "'document'"),
        ({"files": [("file", ("a.txt", b"x")), ("file", ("b.txt", b"x"))]}, "Maximum number of files is 1"),
        ({"files": {"file": ("a.txt", b"x")}, "data": {"title": "x" * 2001}}, "2000"),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, "boundary"),
    ],
)
async def test_a_form_that_is_none(as_tenant: Client, form: dict[str, Any], said: str) -> None:
    answer = await as_tenant("a").post("/v1/files", **form)
    assert answer.status_code == 400
    assert said in message(answer)


async def test_a_file_past_the_limit_is_refused_whether_it_says_so_or_not(
    as_tenant: Client, retriever: Retriever
) -> None:
    a = as_tenant("a")
    retriever.settings = retriever.settings.model_copy(update={"max_file_bytes": 4096})
    for size in (5000, 100_000):
        answer = await upload(a, "a.txt", b"x" * size)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    assert (await upload(a, "a.txt", b"x" * 4096)).status_code == 200

    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        while True:
            yield b"x" * MIB

    answer = await a.post("/v1/files", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413


async def test_a_file_that_takes_too_long_is_given_up_and_the_next_one_is_read(
    as_tenant: Client, retriever: Retriever
) -> None:
    a = as_tenant("a")
    bounds(retriever, seconds=0.5)
    answer = await upload(a, "slow.pdf", pdf_with_stream(b"1 0 0 1 72 720 Tm (x) Tj\n" * 2_000_000))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "file_timed_out")
    assert "within 0.5 s" in message(answer)
    bounds(retriever)
    assert (await upload(a, "a.txt", "Text.")).status_code == 200


async def test_a_file_that_takes_all_memory_is_given_up_and_the_next_one_is_read(
    as_tenant: Client, retriever: Retriever
) -> None:
    a = as_tenant("a")
    bounds(retriever, memory_bytes=150 * MIB)
    answer = await upload(a, "wide.md", "*a* " * 2_000_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    assert "150 MiB of memory" in message(answer)
    assert (await upload(a, "a.txt", "Text.")).status_code == 200


async def test_more_text_than_a_document_may_hold(as_tenant: Client, retriever: Retriever) -> None:
    bounds(retriever, max_characters=1000)
    answer = await upload(as_tenant("a"), "a.txt", "word " * 500)
    assert answer.status_code == 413
    assert "more than 1,000" in message(answer)


async def test_a_crash_costs_one_file(as_tenant: Client, retriever: Retriever) -> None:
    a = as_tenant("a")
    bounds(retriever, command=(sys.executable, "-c", CRASHES))
    names = ["1.txt", "crash.txt", "2.txt", "3.txt"]
    answers = await asyncio.gather(*(upload(a, name, f"Text of {name}.") for name in names))
    assert [answer.status_code for answer in answers] == [200, 422, 200, 200]
    assert answers[1].json()["error"]["code"] == "reader_crashed"
    assert (await a.get("/v1/index")).json()["documents"] == 3


async def test_markup_that_is_nested_too_deeply(as_tenant: Client) -> None:
    a = as_tenant("a")
    assert (await upload(a, "deep.html", "<div>" * 3000 + "x")).status_code == 422
    assert (await upload(a, "a.txt", "Text.")).status_code == 200


async def test_the_process_is_reused_and_does_not_outlive_the_service(as_tenant: Client, retriever: Retriever) -> None:
    a = as_tenant("a")
    processes = []
    for name in ("1.txt", "2.txt"):
        await upload(a, name, "Text.")
        processes.append(retriever.extraction._process)
    process = processes[0]
    assert process is not None
    assert processes[1] is process
    await retriever.extraction.close()
    assert process.returncode is not None


async def test_a_reader_that_does_not_start_is_the_operators_concern(as_tenant: Client, retriever: Retriever) -> None:
    bounds(retriever, command=(sys.executable, "-c", "raise SystemExit(1)"))
    answer = await upload(as_tenant("a"), "a.txt", "Text.")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "extraction_unavailable")


async def test_too_many_files_at_once_are_told_to_wait(as_tenant: Client, retriever: Retriever) -> None:
    retriever.extraction.waiting = 16
    answer = await upload(as_tenant("a"), "a.txt", "Text.")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_client_that_goes_away_leaves_nothing(app: FastAPI, as_tenant: Client) -> None:
    a = as_tenant("a")
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nText'
    messages = iter([{"type": "http.request", "body": head, "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []
    headers = {IDENTITY_HEADER: a.headers[IDENTITY_HEADER], "content-type": "multipart/form-data; boundary=b"}

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 499
    assert (await a.get("/v1/index")).json()["documents"] == 0
