"""The embedded store: Qdrant Edge, the engine of the Qdrant server in this process.

Edge has one writer and its Python binding holds the interpreter lock during a call, so all calls run
in one thread, in order and in small batches: a search waits for at most one write of `WRITE_BATCH`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge as edge

from capstan.retriever.store import (
    BM25,
    CANDIDATE_FIELDS,
    CHUNK_FIELDS,
    DENSE,
    INTEGER_FIELDS,
    KEYWORD_FIELDS,
    ROW_FIELDS,
    Candidate,
    Counts,
    DocumentRow,
    Embedded,
    Floats,
    Hit,
    NewPoint,
    Payload,
    SearchPlan,
    Sparse,
    StoredChunk,
    StoredPoint,
    StoreError,
    batches,
    document_row,
)

T = TypeVar("T")
_EVERYTHING = 2**31


class EdgeStore:
    """`VectorStore` over an Edge shard in a directory."""

    def __init__(self, directory: Path, dimensions: int) -> None:
        """Open or create the shard. Raises `StoreError`, for one if another process has it open."""
        self._shard = _open(directory, dimensions)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edge")

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _update(self, operation: edge.UpdateOperation) -> None:
        await self._run(lambda: self._shard.update(operation))

    async def close(self) -> None:
        """Flush and close; the directory can be opened again."""
        await self._run(self._shard.close)
        self._thread.shutdown()

    async def flush(self) -> None:
        """Write segments and log to disk."""
        await self._run(self._shard.flush)

    async def upsert(self, points: Sequence[NewPoint]) -> None:
        """Write chunks in batches."""
        for batch in batches(points):
            rows = [edge.Point(p.id, {BM25: _sparse(p.bm25)}, p.payload.as_dict()) for p in batch]
            await self._update(edge.UpdateOperation.upsert_points(rows))

    async def update_payload(self, ids: Sequence[str], fields: dict[str, Any]) -> None:
        """Set fields, vectors stay."""
        if ids:
            await self._update(edge.UpdateOperation.set_payload(list(ids), fields))

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete points by id."""
        for batch in batches(ids):
            await self._update(edge.UpdateOperation.delete_points(list(batch)))

    async def set_dense(self, ids: Sequence[str], vectors: Floats) -> int:
        """Write dense vectors of the points that still exist."""

        def write() -> int:
            # Edge refuses the whole update if one point is gone; nothing can slip in between here
            present = {str(r.id) for r in self._shard.retrieve(list(ids), with_payload=False, with_vector=False)}
            rows = [
                edge.PointVectors(id, {DENSE: vector.tolist()})
                for id, vector in zip(ids, vectors, strict=True)
                if id in present
            ]
            if rows:
                self._shard.update(edge.UpdateOperation.update_vectors(rows))
            return len(rows)

        return await self._run(write)

    async def pending(self, limit: int, exclude: Sequence[str]) -> list[tuple[str, Payload]]:
        """Points without the dense vector."""
        without: list[Any] = [edge.HasVectorCondition(DENSE)]
        if exclude:
            without.append(edge.HasIdCondition(set(exclude)))
        records, _ = await self._scroll(edge.Filter(must_not=without), limit, None)
        return [(str(r.id), Payload(**r.payload)) for r in records]

    async def stored(self, tenant: str, document_ids: Sequence[str]) -> list[StoredPoint]:
        """All points of the documents."""
        fields = ["document_id", "revision", "chunk_index", "chunks"]
        where = edge.Filter(must=[_one_of("tenant", [tenant]), _one_of("document_id", document_ids)])
        records, _ = await self._scroll(where, _EVERYTHING, None, fields)
        return [StoredPoint(id=str(r.id), **r.payload) for r in records]

    async def payloads(self, tenant: str, document_ids: Sequence[str]) -> list[Payload]:
        """All points of the documents, with everything but their vectors."""
        where = edge.Filter(must=[_one_of("tenant", [tenant]), _one_of("document_id", document_ids)])
        records, _ = await self._scroll(where, _EVERYTHING, None)
        return [Payload(**r.payload) for r in records]

    async def documents(
        self, tenants: Sequence[str] | None, limit: int, cursor: str | None
    ) -> tuple[list[DocumentRow], str | None]:
        """Pages over first chunks, in the order of their ids."""
        first = edge.Filter(must=[*_whose(tenants), _equal("chunk_index", 0)])
        records, following = await self._scroll(first, limit, cursor, ROW_FIELDS)
        embedded = await self._embedded(tenants, [r.payload["document_id"] for r in records])
        page = [document_row(r.payload, embedded) for r in records]
        return page, None if following is None else str(following)

    async def _embedded(self, tenants: Sequence[str] | None, document_ids: Sequence[str]) -> Embedded:
        mine = [*_whose(tenants), _one_of("document_id", document_ids)]
        where = edge.Filter(must=[*mine, edge.HasVectorCondition(DENSE)])
        records, _ = await self._scroll(where, _EVERYTHING, None, ["tenant", "document_id", "revision"])
        return Counter((r.payload["tenant"], r.payload["document_id"], r.payload["revision"]) for r in records)

    async def document(self, tenant: str, document_id: str) -> DocumentRow | None:
        """One document."""
        where = edge.Filter(
            must=[_one_of("tenant", [tenant]), _equal("document_id", document_id), _equal("chunk_index", 0)]
        )
        records, _ = await self._scroll(where, 1, None, ROW_FIELDS)
        if not records:
            return None
        return document_row(records[0].payload, await self._embedded([tenant], [document_id]))

    async def chunks(self, tenant: str, document_id: str, start: int, limit: int) -> list[StoredChunk]:
        """A range of chunk indices of one document."""
        indices = edge.FieldCondition("chunk_index", range=edge.RangeFloat(gte=start, lt=start + limit))
        where = edge.Filter(must=[_one_of("tenant", [tenant]), _equal("document_id", document_id), indices])
        records, _ = await self._scroll(where, _EVERYTHING, None, CHUNK_FIELDS)
        found = [StoredChunk(id=str(r.id), **r.payload) for r in records]
        return sorted(found, key=lambda chunk: chunk.chunk_index)

    async def _scroll(
        self, where: edge.Filter, limit: int, cursor: str | None, fields: list[str] | None = None
    ) -> tuple[list[Any], Any]:
        request = edge.ScrollRequest(
            offset=cursor, limit=limit, filter=where, with_payload=fields or True, with_vector=False
        )
        return await self._run(lambda: self._shard.scroll(request))

    async def counts(self, tenants: Sequence[str] | None) -> Counts:
        """Three exact counts over indexed fields."""
        whose = _whose(tenants)
        return Counts(
            documents=await self._count([*whose, _equal("chunk_index", 0)]),
            chunks=await self._count(whose),
            embedded=await self._count([*whose, edge.HasVectorCondition(DENSE)]),
        )

    async def _count(self, conditions: list[Any]) -> int:
        request = edge.CountRequest(filter=edge.Filter(must=conditions) if conditions else None)
        return await self._run(lambda: self._shard.count(request))

    async def search(self, plan: SearchPlan) -> list[Hit]:
        """One query, then the payloads of what is chosen; nothing is written in between."""

        def search() -> list[Hit]:
            points = self._shard.query(_request(plan))
            fields = [p.payload or {} for p in points]
            found = [
                Candidate(str(p.id), p.score, (f["tenant"], f["document_id"]))
                for p, f in zip(points, fields, strict=True)
            ]
            chosen = plan.chosen(found)
            records = self._shard.retrieve([c.id for c in chosen], with_payload=True, with_vector=False)
            payloads = {str(r.id): Payload(**(r.payload or {})) for r in records}
            return [Hit(c.id, c.score, payloads[c.id]) for c in chosen]

        return await self._run(search)


def _open(directory: Path, dimensions: int) -> edge.EdgeShard:
    config = edge.EdgeConfig(
        vectors={
            # half the memory traffic of a scan for a rounding error below that of the int8 encoder
            DENSE: edge.EdgeVectorParams(dimensions, edge.Distance.Cosine, datatype=edge.VectorStorageDatatype.Float16)
        },
        sparse_vectors={BM25: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
    )
    try:
        if (directory / "edge_config.json").exists() or (directory / "segments").exists():
            shard = edge.EdgeShard.load(str(directory), config)
        else:
            directory.mkdir(parents=True, exist_ok=True)
            shard = edge.EdgeShard.create(str(directory), config)
        for field in KEYWORD_FIELDS:
            index = edge.KeywordIndexParams(is_tenant=field == "tenant")
            shard.update(edge.UpdateOperation.create_field_index(field, index))
        for field in INTEGER_FIELDS:
            shard.update(edge.UpdateOperation.create_field_index(field, edge.PayloadSchemaType.Integer))
    except OSError as error:
        raise StoreError(f"cannot use {directory} ({error.strerror}); set CAPSTAN_RETRIEVER_DATA_DIR") from error
    except Exception as error:  # Edge raises bare exceptions
        reason = "another process has it open" if "WouldBlock" in str(error) else str(error)
        raise StoreError(f"cannot open the index in {directory}: {reason}") from error
    return shard


def _request(plan: SearchPlan) -> edge.QueryRequest:
    # the same as one `match any` of both, and faster: by a fifth in a scan, three times for the rarity of terms
    tenants: list[Any] = [_equal("tenant", tenant) for tenant in plan.tenants]
    source: list[Any] | None = None if plan.source is None else [_equal("source", plan.source)]
    excluded: list[Any] | None = [_one_of("document_id", plan.exclude)] if plan.exclude else None
    where = edge.Filter(should=tenants, must=source, must_not=excluded)
    lists: list[tuple[edge.Query, edge.SearchParams | None, float]] = []
    if plan.bm25 is not None:
        # term rarity is that of the chunks this tenant can read; other tenants' do not shift its scores
        rarity = edge.SearchParams(idf=edge.IdfParams(edge.Filter(should=tenants)))
        lists.append((edge.Query.Nearest(_sparse(plan.bm25), using=BM25), rarity, plan.fusion.bm25_weight))
    if plan.dense is not None:
        lists.append((edge.Query.Nearest(plan.dense.tolist(), using=DENSE), None, plan.fusion.dense_weight))
    if len(lists) == 1:
        query, params, _ = lists[0]
        return edge.QueryRequest(
            limit=plan.depth, query=query, filter=where, params=params, with_payload=CANDIDATE_FIELDS
        )
    prefetches = [edge.Prefetch(plan.fusion.candidates, query, filter=where, params=p) for query, p, _ in lists]
    if plan.fusion.kind == "dbsf":
        fusion: Any = edge.Fusion.Dbsf()
    else:
        # Qdrant counts ranks from 0, the textbook from 1
        fusion = edge.Fusion.Rrf(plan.fusion.rrf_k + 1, [weight for _, _, weight in lists])
    return edge.QueryRequest(limit=plan.depth, query=fusion, prefetches=prefetches, with_payload=CANDIDATE_FIELDS)


def _whose(tenants: Sequence[str] | None) -> list[Any]:
    return [] if tenants is None else [_one_of("tenant", tenants)]


def _one_of(field: str, values: Sequence[str]) -> edge.FieldCondition:
    return edge.FieldCondition(field, match=edge.MatchAny(list(values)))


def _equal(field: str, value: str | int) -> edge.FieldCondition:
    return edge.FieldCondition(field, match=edge.MatchValue(value))


def _sparse(vector: Sparse) -> edge.SparseVector:
    return vector if isinstance(vector, edge.SparseVector) else edge.SparseVector(vector.indices, vector.values)
