"""Routes for documents and their chunks."""

import uuid
from dataclasses import asdict
from typing import Annotated

from fastapi import FastAPI, Query

from capstan.common.errors import ApiError
from capstan.retriever.chunking import Section
from capstan.retriever.ingest import InvalidDocument, NewDocument
from capstan.retriever.schemas import (
    ChunkOut,
    ChunkPage,
    DeleteOut,
    DocumentIn,
    DocumentOut,
    DocumentPage,
    DocumentsIn,
    IngestOut,
    IngestResult,
)
from capstan.retriever.state import Caller, Retriever, not_found, readable
from capstan.retriever.store import StoredChunk


def add_documents(app: FastAPI, retriever: Retriever) -> None:
    """Put, list, get and delete documents; list a document's chunks."""

    @app.post("/v1/documents", tags=["documents"])
    async def put_documents(body: DocumentsIn, caller: Caller) -> IngestOut:
        """Index a batch: findable by BM25 and on disk when this answers, embedded soon after."""
        limit = retriever.settings.max_batch_documents
        if len(body.documents) > limit:
            raise ApiError(
                400,
                "batch_too_large",
                f"{len(body.documents)} documents in one batch; send at most {limit}",
                param="documents",
            )
        try:
            outcomes = await retriever.put(caller.tenant, [_document(d) for d in body.documents])
        except InvalidDocument as error:
            raise ApiError(400, "invalid_document", str(error), param="documents") from None
        return IngestOut(results=[IngestResult(**asdict(outcome)) for outcome in outcomes])

    @app.get("/v1/documents", tags=["documents"])
    async def list_documents(
        caller: Caller,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
        own: Annotated[bool, Query(description="Without the shared ones.")] = False,
    ) -> DocumentPage:
        """The tenant's documents and the shared ones, in no particular but a stable order."""
        if cursor is not None and not _is_uuid(cursor):
            raise ApiError(400, "invalid_cursor", "cursor is not one of a page's `next`", param="cursor")
        tenants = (caller.tenant,) if own else readable(caller.tenant)
        rows, following = await retriever.store.documents(tenants, limit, cursor)
        return DocumentPage(data=[DocumentOut(**asdict(row)) for row in rows], next=following)

    @app.get("/v1/documents/{document_id:path}", tags=["documents"])
    async def get_document(document_id: str, caller: Caller) -> DocumentOut:
        """One document: the tenant's own, else the shared one of that id."""
        return DocumentOut(**asdict(await retriever.document(caller.tenant, document_id)))

    @app.delete("/v1/documents/{document_id:path}", tags=["documents"])
    async def delete_document(document_id: str, caller: Caller) -> DeleteOut:
        """Remove one of the tenant's own documents."""
        chunks = await retriever.delete(caller.tenant, document_id)
        if not chunks:
            raise not_found(document_id)
        return DeleteOut(id=document_id, chunks=chunks)

    @app.get("/v1/chunks", tags=["documents"])
    async def list_chunks(
        caller: Caller,
        document_id: str,
        start: Annotated[int, Query(alias="from", ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> ChunkPage:
        """A document's chunks in order: the tenant's own document, else the shared one of that id."""
        row = await retriever.document(caller.tenant, document_id)
        chunks = await retriever.store.chunks(row.tenant, document_id, start, limit)
        return ChunkPage(
            document=DocumentOut(**asdict(row)),
            # after a crash in an update two revisions may be there
            data=[_chunk(chunk) for chunk in chunks if chunk.revision == row.revision],
            next=start + limit if start + limit < row.chunks else None,
        )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _document(body: DocumentIn) -> NewDocument:
    sections = tuple(Section(tuple(section.heading), section.text) for section in body.sections)
    return NewDocument(body.id, body.title, sections, body.source, body.license, body.url, body.revision)


def _chunk(chunk: StoredChunk) -> ChunkOut:
    return ChunkOut(id=chunk.id, chunk_index=chunk.chunk_index, heading=chunk.heading, text=chunk.text)
