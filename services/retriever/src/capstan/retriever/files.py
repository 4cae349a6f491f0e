"""The route for uploads: one file in, one document indexed."""

import asyncio
import hashlib
import re
import shutil
import tempfile
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fastapi import FastAPI, Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from capstan.common.disconnect import ClientGone
from capstan.common.errors import ApiError
from capstan.extract.rules import SUFFIXES, Format
from capstan.extract.text import prose
from capstan.retriever.extraction import Extracted, ExtractionUnavailable, Unreadable
from capstan.retriever.ingest import NewDocument
from capstan.retriever.schemas import FileOut, errors
from capstan.retriever.state import Caller, Retriever

MAX_ID = 512
MAX_TITLE = 2000
_LONGEST_STEM = 200
_MOST_WAITING = 16
_FIELDS = ("id", "title")
_LONGEST_FIELD = 16 * 1024
_SUPPORTED = ", ".join(suffix[1:] for suffix in SUFFIXES)
_FORM_OVERHEAD = 64 * 1024
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": f"One of {_SUPPORTED}."},
                        "id": {"type": "string", "maxLength": MAX_ID, "description": "Default: files/<name>."},
                        "title": {"type": "string", "maxLength": MAX_TITLE, "description": "Default: the file's own."},
                    },
                }
            }
        },
    }
}


def add_files(app: FastAPI, retriever: Retriever) -> None:
    """Upload a file."""

    @app.post("/v1/files", tags=["documents"], openapi_extra=_BODY, responses=errors(415))
    async def put_file(request: Request, caller: Caller) -> FileOut:
        """Index an html, md, rst, txt or pdf file; the same name or id again updates it."""
        outcome = "failed"
        try:
            answer = await _put_file(request, caller.tenant, retriever)
            outcome = answer.status
        except ApiError as error:
            outcome = error.code
            raise
        finally:
            retriever.metrics.files.labels(outcome).inc()
        return answer


async def _put_file(request: Request, tenant: str, retriever: Retriever) -> FileOut:
    limit = retriever.settings.max_file_bytes
    if retriever.extraction.waiting >= _MOST_WAITING:
        raise ApiError(503, "extraction_busy", "too many files are waiting to be read; try again", retry_after=5)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit + _FORM_OVERHEAD:
        raise _too_large(limit)
    async with _form(request) as form:
        upload = _upload(form)
        name = file_name(upload.filename or "")
        kind = _kind(name)
        id = document_id(str(form.get("id") or "") or f"files/{name}")
        title = prose(str(form.get("title") or ""))
        if len(title) > MAX_TITLE:
            raise ApiError(400, "invalid_title", f"title has more than {MAX_TITLE} characters", param="title")
        if not upload.size:
            raise ApiError(422, "empty_file", f"{name} is empty", param="file")
        if upload.size > limit:
            raise _too_large(limit)
        page = await _extracted(upload.file, kind, name, retriever)
    document = NewDocument(id, title or page.title, page.sections, source="upload", url=f"upload:{name}")
    (outcome,) = await retriever.put(tenant, [document])
    return FileOut(id=id, title=document.title, status=outcome.status, chunks=outcome.chunks)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """The form, its file streamed to disk while it is larger than a megabyte."""
    try:
        form = await request.form(max_files=1, max_fields=len(_FIELDS), max_part_size=_LONGEST_FIELD)
    except ApiError:
        raise
    except HTTPException as error:
        raise ApiError(400, "invalid_form", f"the form cannot be read: {error.detail}") from None
    except ClientDisconnect:
        raise ClientGone from None
    try:
        yield form
    finally:
        await form.close()


def _upload(form: FormData) -> UploadFile:
    for name in form:
        if name not in ("file", *_FIELDS):
            raise ApiError(400, "invalid_form", f"there is no field {name[:100]!r}; send file, id, title", param="file")
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise ApiError(400, "invalid_form", "send the file as multipart/form-data in the field file", param="file")
    return upload


def file_name(raw: str) -> str:
    """The last part of a path as a name that can be shown: NFC, no control characters, at most 255 long."""
    name = prose(re.split(r"[/\\]", raw)[-1])
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    if len(stem) > _LONGEST_STEM:
        name = f"{stem[:_LONGEST_STEM]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}{suffix[:32]}"
    return name


def document_id(id: str) -> str:
    """The id in NFC. Raises `ApiError` for one that cannot stand in a URL or on a line."""
    id = unicodedata.normalize("NFC", id)
    if id != prose(id) or len(id) > MAX_ID or {"", ".", ".."} & set(id.split("/")):
        rules = f"1 to {MAX_ID} characters, no control characters, no path segment that is empty, . or .."
        raise ApiError(400, "invalid_id", f"this id cannot be used; it must be {rules}", param="id")
    return id


def _kind(name: str) -> Format:
    kind = SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if kind is None:
        message = f"{name or 'a file without a name'} is of no supported kind; these are: {_SUPPORTED}"
        raise ApiError(415, "unsupported_file", message, param="file")
    return kind


async def _extracted(file: BinaryIO, kind: Format, name: str, retriever: Retriever) -> Extracted:
    """What the file holds. Raises `ApiError` with what to do about a file that holds nothing."""
    with tempfile.NamedTemporaryFile(prefix="capstan-upload-") as copy:
        await asyncio.to_thread(shutil.copyfileobj, file, copy)
        copy.flush()
        if complaint := _contradiction(Path(copy.name), kind):
            raise _unreadable(name, complaint)
        try:
            with retriever.metrics.extraction_seconds.time():
                page = await retriever.extraction.read(Path(copy.name), kind, PurePosixPath(name).stem)
        except Unreadable as error:
            status = 413 if error.code == "file_too_large" else 422
            raise ApiError(status, error.code, f"{name}: {error}", param="file") from None
        except ExtractionUnavailable:
            message = "files cannot be read at the moment; the service's log says why"
            raise ApiError(503, "extraction_unavailable", message) from None
    if not any(section.text.strip() for section in page.sections):
        raise _unreadable(name, "it holds no text")
    return page


def _contradiction(path: Path, kind: Format) -> str | None:
    """What is wrong if the content is not what the name says; text is looked at by its reader."""
    with path.open("rb") as file:
        is_pdf = b"%PDF-" in file.read(1024)
    if kind == "pdf" and not is_pdf:
        return "it is not a PDF, whatever its name says"
    if kind != "pdf" and is_pdf:
        return "it is a PDF; let its name end in .pdf"
    return None


def _unreadable(name: str, reason: str) -> ApiError:
    return ApiError(422, "unreadable_file", f"{name}: {reason}", param="file")


def _too_large(limit: int) -> ApiError:
    message = f"the file is larger than {limit / 2**20:.3g} MiB; split it"
    return ApiError(413, "file_too_large", message, param="file")
