"""Documents into the store: chunk, write the new, then delete the stale.

A crash between the two leaves old and new chunks side by side: the document stays findable, is not
"unchanged" for the next ingest, and that one cleans up. Nothing is written before the whole batch
has been checked.
"""

import asyncio
import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from capstan.retriever.chunking import Chunker, Section
from capstan.retriever.embedder import View, view
from capstan.retriever.lexical import Lexicon
from capstan.retriever.store import NewPoint, Payload, StoredPoint, VectorStore

_NAMESPACE = uuid.UUID("6ff1d0a8-3f7c-5d0e-9a55-3b1f5a0c6a01")
Status = Literal["created", "updated", "unchanged"]


class InvalidDocument(Exception):
    """A document that cannot be indexed; `id` names it, the message says why."""

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(reason)
        self.id = id


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document as it came in; without a revision it gets the hash of its content."""

    id: str
    title: str
    sections: tuple[Section, ...]
    source: str | None = None
    license: str | None = None
    url: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a document."""

    id: str
    status: Status
    chunks: int


class Ingest:
    """Writes documents of one tenant at a time."""

    def __init__(self, store: VectorStore, chunk: Chunker, view: View = view) -> None:
        self._store = store
        self._chunk = chunk
        self._view = view
        self._lexicon = Lexicon()
        self._one_at_a_time = asyncio.Lock()

    async def ingest(self, tenant: str, documents: list[NewDocument]) -> list[Outcome]:
        """Index a batch; when this returns it is findable by BM25 and on disk. Raises `InvalidDocument`."""
        check(documents)
        async with self._one_at_a_time:
            stored: dict[str, list[StoredPoint]] = defaultdict(list)
            for point in await self._store.stored(tenant, [document.id for document in documents]):
                stored[point.document_id].append(point)
            return await self._write(tenant, documents, stored)

    async def _write(
        self, tenant: str, documents: list[NewDocument], stored: dict[str, list[StoredPoint]]
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        new: list[NewPoint] = []
        stale: list[str] = []
        for document in documents:
            old = {point.id: point for point in stored[document.id]}
            revision = document.revision or content_revision(document)
            if is_current(old.values(), revision):
                outcomes.append(Outcome(document.id, "unchanged", len(old)))
                continue
            points = await asyncio.to_thread(self._points, tenant, document, revision)
            outcomes.append(Outcome(document.id, "updated" if old else "created", len(points)))
            wanted = {point.id: point for point in points}
            new += [point for point in points if point.id not in old]
            stale += old.keys() - wanted.keys()
            kept = old.keys() & wanted.keys()
            if kept:  # same text under the same heading: its dense vector stays
                await self._store.update_payload(sorted(kept), _shared_fields(wanted[next(iter(kept))].payload))
        await self._store.upsert(new)
        await self._store.delete(stale)
        await self._store.flush()
        return outcomes

    def _points(self, tenant: str, document: NewDocument, revision: str) -> list[NewPoint]:
        chunks = self._chunk(document.sections)
        points = []
        for index, chunk in enumerate(chunks):
            payload = Payload(
                tenant=tenant,
                document_id=document.id,
                revision=revision,
                title=document.title,
                heading=list(chunk.heading),
                text=chunk.text,
                url=document.url,
                source=document.source,
                license=document.license,
                chunk_index=index,
                chunks=len(chunks),
            )
            where_and_text = document.title, chunk.heading, chunk.text
            id = point_id(tenant, document.id, index, view(*where_and_text))
            points.append(NewPoint(id, payload, self._lexicon.document(self._view(*where_and_text))))
        return points

    async def delete(self, tenant: str, document_id: str) -> int:
        """Remove a document; returns how many chunks it had."""
        async with self._one_at_a_time:
            points = await self._store.stored(tenant, [document_id])
            # the first chunk last: as long as it is there the document is listed and can be deleted again
            await self._store.delete([p.id for p in sorted(points, key=lambda p: p.chunk_index, reverse=True)])
            await self._store.flush()
            return len(points)


def check(documents: list[NewDocument]) -> None:
    """Refuse a batch with the same id twice or a document without text."""
    for id, times in Counter(document.id for document in documents).items():
        if times > 1:
            raise InvalidDocument(id, f"document {id!r} is {times} times in this batch; send each id once")
    for document in documents:
        if not any(section.text.strip() for section in document.sections):
            raise InvalidDocument(
                document.id, f"document {document.id!r} has no text; leave it out or send its sections"
            )


def is_current(old: Iterable[StoredPoint], revision: str) -> bool:
    """Whether the stored chunks are exactly those of this revision, with none missing and none left over."""
    points = list(old)
    return bool(points) and all(p.revision == revision and p.chunks == len(points) for p in points)


def point_id(tenant: str, document_id: str, index: int, content: str) -> str:
    """A stable id: it changes exactly when the chunk's title, headings or text change."""
    content = hashlib.sha256(content.encode()).hexdigest()
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join((tenant, document_id, str(index), content))))


def content_revision(document: NewDocument) -> str:
    """A hash of everything that a document holds."""
    digest = hashlib.sha256()
    fields = (document.title, document.source, document.license, document.url)
    for text in (*fields, *(t for s in document.sections for t in (*s.heading, s.text))):
        digest.update(b"\x00" if text is None else b"\x01" + text.encode() + b"\x1f")
    return digest.hexdigest()[:32]


def _shared_fields(payload: Payload) -> dict[str, object]:
    """The fields that may differ between two revisions of one chunk."""
    names = ("revision", "url", "source", "license", "chunks")
    return {name: getattr(payload, name) for name in names}
