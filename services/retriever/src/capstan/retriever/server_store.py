"""The store on a Qdrant server or cluster, with the same schema as the embedded one."""

from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import httpx
from qdrant_client import AsyncQdrantClient
from qdrant_client import models as q
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

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
_PAGE = 1000


async def called(call: Awaitable[T]) -> T:
    """A request's answer. Raises `StoreError` when the server is away or refuses."""
    try:
        return await call
    except (ResponseHandlingException, UnexpectedResponse, httpx.HTTPError) as error:
        raise StoreError(f"the Qdrant server did not answer as it should: {error}") from error


class ServerStore:
    """`VectorStore` over a collection. The collection is made on first use."""

    def __init__(self, client: AsyncQdrantClient, collection: str, dimensions: int) -> None:
        self._client = client
        self._collection = collection
        self._dimensions = dimensions
        self._made = False

    @classmethod
    def connect(cls, url: str, api_key: str | None, collection: str, dimensions: int) -> "ServerStore":
        """A store at `url`; nothing is sent yet."""
        client = AsyncQdrantClient(url=url, api_key=api_key, check_compatibility=False, timeout=30)
        return cls(client, collection, dimensions)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def flush(self) -> None:
        """Nothing: writes are made with `wait`, and the server logs them before it answers."""

    async def ready(self) -> AsyncQdrantClient:
        """The client, once the collection is there."""
        if not self._made:
            if not await called(self._client.collection_exists(self._collection)):
                await self._make()
            self._made = True
        return self._client

    async def _make(self) -> None:
        client, name = self._client, self._collection
        dense = q.VectorParams(size=self._dimensions, distance=q.Distance.COSINE, datatype=q.Datatype.FLOAT16)
        bm25 = q.SparseVectorParams(modifier=q.Modifier.IDF)
        try:
            await client.create_collection(name, vectors_config={DENSE: dense}, sparse_vectors_config={BM25: bm25})
        except UnexpectedResponse as error:
            if error.status_code != 409:  # another replica was faster
                raise StoreError(f"the Qdrant server refused the collection {name}: {error}") from error
        except (ResponseHandlingException, httpx.HTTPError) as error:
            raise StoreError(f"the Qdrant server cannot be reached: {error}") from error
        for field in KEYWORD_FIELDS:
            keyword = q.KeywordIndexParams(type=q.KeywordIndexType.KEYWORD, is_tenant=field == "tenant")
            await called(client.create_payload_index(name, field, keyword, wait=True))
        for field in INTEGER_FIELDS:
            await called(client.create_payload_index(name, field, q.PayloadSchemaType.INTEGER, wait=True))

    async def upsert(self, points: Sequence[NewPoint]) -> None:
        """Write chunks in batches."""
        client = await self.ready()
        for batch in batches(points):
            rows = [q.PointStruct(id=p.id, vector={BM25: _sparse(p.bm25)}, payload=p.payload.as_dict()) for p in batch]
            await called(client.upsert(self._collection, rows, wait=True))

    async def update_payload(self, ids: Sequence[str], fields: dict[str, Any]) -> None:
        """Set fields, vectors stay."""
        client = await self.ready()
        if ids:
            await called(client.set_payload(self._collection, fields, points=list(ids), wait=True))

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete points by id."""
        client = await self.ready()
        for batch in batches(ids):
            selector = q.PointIdsList(points=list(batch))
            await called(client.delete(self._collection, selector, wait=True))

    async def set_dense(self, ids: Sequence[str], vectors: Floats) -> int:
        """Write dense vectors of the points that still exist.

        One that is deleted between the look and the write fails the batch; the worker then tries again.
        """
        client = await self.ready()
        found = await called(client.retrieve(self._collection, list(ids), with_payload=False, with_vectors=False))
        present = {str(record.id) for record in found}
        rows = [
            q.PointVectors(id=id, vector={DENSE: vector.tolist()})
            for id, vector in zip(ids, vectors, strict=True)
            if id in present
        ]
        if rows:
            await called(client.update_vectors(self._collection, rows, wait=True))
        return len(rows)

    async def pending(self, limit: int, exclude: Sequence[str]) -> list[tuple[str, Payload]]:
        """Points without the dense vector."""
        without: list[Any] = [q.HasVectorCondition(has_vector=DENSE)]
        if exclude:
            without.append(q.HasIdCondition(has_id=list(exclude)))
        records, _ = await self._scroll(q.Filter(must_not=without), limit, None)
        return [(str(r.id), Payload(**(r.payload or {}))) for r in records]

    async def stored(self, tenant: str, document_ids: Sequence[str]) -> list[StoredPoint]:
        """All points of the documents."""
        where = q.Filter(must=[_one_of("tenant", [tenant]), _one_of("document_id", document_ids)])
        records = await self._all(where, ["document_id", "revision", "chunk_index", "chunks"])
        return [StoredPoint(id=str(r.id), **(r.payload or {})) for r in records]

    async def payloads(self, tenant: str, document_ids: Sequence[str]) -> list[Payload]:
        """All points of the documents, with everything but their vectors."""
        where = q.Filter(must=[_one_of("tenant", [tenant]), _one_of("document_id", document_ids)])
        return [Payload(**(r.payload or {})) for r in await self._all(where, None)]

    async def documents(
        self, tenants: Sequence[str] | None, limit: int, cursor: str | None
    ) -> tuple[list[DocumentRow], str | None]:
        """Pages over first chunks, in the order of their ids."""
        first = q.Filter(must=[*_whose(tenants), _equal("chunk_index", 0)])
        records, following = await self._scroll(first, limit, cursor, ROW_FIELDS)
        rows = [r.payload or {} for r in records]
        embedded = await self._embedded(tenants, [row["document_id"] for row in rows])
        page = [document_row(row, embedded) for row in rows]
        return page, None if following is None else str(following)

    async def document(self, tenant: str, document_id: str) -> DocumentRow | None:
        """One document."""
        conditions = [_one_of("tenant", [tenant]), _equal("document_id", document_id), _equal("chunk_index", 0)]
        records, _ = await self._scroll(q.Filter(must=conditions), 1, None, ROW_FIELDS)
        if not records:
            return None
        return document_row(records[0].payload or {}, await self._embedded([tenant], [document_id]))

    async def _embedded(self, tenants: Sequence[str] | None, document_ids: Sequence[str]) -> Embedded:
        where = q.Filter(
            must=[
                *_whose(tenants),
                _one_of("document_id", document_ids),
                q.HasVectorCondition(has_vector=DENSE),
            ]
        )
        records = await self._all(where, ["tenant", "document_id", "revision"])
        return Counter((p["tenant"], p["document_id"], p["revision"]) for r in records if (p := r.payload))

    async def chunks(self, tenant: str, document_id: str, start: int, limit: int) -> list[StoredChunk]:
        """A range of chunk indices of one document."""
        indices = q.FieldCondition(key="chunk_index", range=q.Range(gte=start, lt=start + limit))
        where = q.Filter(must=[_one_of("tenant", [tenant]), _equal("document_id", document_id), indices])
        found = [StoredChunk(id=str(r.id), **(r.payload or {})) for r in await self._all(where, CHUNK_FIELDS)]
        return sorted(found, key=lambda chunk: chunk.chunk_index)

    async def _all(self, where: q.Filter, fields: list[str] | None) -> list[q.Record]:
        found, cursor = await self._scroll(where, _PAGE, None, fields)
        while cursor is not None:
            page, cursor = await self._scroll(where, _PAGE, str(cursor), fields)
            found += page
        return found

    async def _scroll(
        self, where: q.Filter, limit: int, cursor: str | None, fields: list[str] | None = None
    ) -> tuple[list[q.Record], Any]:
        client = await self.ready()
        call = client.scroll(
            self._collection, where, limit=limit, offset=cursor, with_payload=fields or True, with_vectors=False
        )
        return await called(call)

    async def counts(self, tenants: Sequence[str] | None) -> Counts:
        """Three exact counts over indexed fields."""
        whose = _whose(tenants)
        return Counts(
            documents=await self._count([*whose, _equal("chunk_index", 0)]),
            chunks=await self._count(whose),
            embedded=await self._count([*whose, q.HasVectorCondition(has_vector=DENSE)]),
        )

    async def _count(self, conditions: list[Any]) -> int:
        client = await self.ready()
        where = q.Filter(must=conditions) if conditions else None
        return (await called(client.count(self._collection, where, exact=True))).count

    async def search(self, plan: SearchPlan) -> list[Hit]:
        """One query, then the payloads of what is chosen; a chunk that was deleted in between is left out."""
        client = await self.ready()
        response = await called(
            client.query_points(self._collection, limit=plan.depth, with_payload=CANDIDATE_FIELDS, **_query(plan))
        )
        fields = [p.payload or {} for p in response.points]
        found = [
            Candidate(str(p.id), p.score, (f["tenant"], f["document_id"]))
            for p, f in zip(response.points, fields, strict=True)
        ]
        chosen = plan.chosen(found)
        ids: list[Any] = [c.id for c in chosen]
        records = await called(client.retrieve(self._collection, ids, with_payload=True)) if ids else []
        payloads = {str(r.id): Payload(**(r.payload or {})) for r in records}
        return [Hit(c.id, c.score, payloads[c.id]) for c in chosen if c.id in payloads]


def _query(plan: SearchPlan) -> dict[str, Any]:
    tenants: list[Any] = [_equal("tenant", tenant) for tenant in plan.tenants]
    source: list[Any] | None = None if plan.source is None else [_equal("source", plan.source)]
    excluded: list[Any] | None = [_one_of("document_id", plan.exclude)] if plan.exclude else None
    where = q.Filter(should=tenants, must=source, must_not=excluded)
    lists: list[tuple[Any, str, q.SearchParams | None, float]] = []
    if plan.bm25 is not None:
        # term rarity is that of the chunks this tenant can read; other tenants' do not shift its scores
        params = q.SearchParams(idf=q.IdfCorpusParams(corpus=q.Filter(should=tenants)))
        lists.append((_sparse(plan.bm25), BM25, params, plan.fusion.bm25_weight))
    if plan.dense is not None:
        lists.append((plan.dense.tolist(), DENSE, None, plan.fusion.dense_weight))
    if len(lists) == 1:
        query, using, search_params, _ = lists[0]
        return {"query": query, "using": using, "query_filter": where, "search_params": search_params}
    prefetch = [
        q.Prefetch(query=query, using=using, filter=where, params=params, limit=plan.fusion.candidates)
        for query, using, params, _ in lists
    ]
    if plan.fusion.kind == "dbsf":
        return {"prefetch": prefetch, "query": q.FusionQuery(fusion=q.Fusion.DBSF)}
    weights = [weight for *_, weight in lists]
    # Qdrant counts ranks from 0, the textbook from 1
    return {"prefetch": prefetch, "query": q.RrfQuery(rrf=q.Rrf(k=plan.fusion.rrf_k + 1, weights=weights))}


def _whose(tenants: Sequence[str] | None) -> list[Any]:
    return [] if tenants is None else [_one_of("tenant", tenants)]


def _one_of(field: str, values: Sequence[str]) -> q.FieldCondition:
    return q.FieldCondition(key=field, match=q.MatchAny(any=list(values)))


def _equal(field: str, value: str | int) -> q.FieldCondition:
    return q.FieldCondition(key=field, match=q.MatchValue(value=value))


def _sparse(vector: Sparse) -> q.SparseVector:
    return q.SparseVector(indices=vector.indices, values=vector.values)
