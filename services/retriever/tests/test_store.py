"""The contract that every store keeps: the embedded one, and the server's client over two engines."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from capstan.retriever.edge_store import EdgeStore
from capstan.retriever.lexical import Lexicon
from capstan.retriever.server_store import ServerStore
from capstan.retriever.store import Fusion, Mode, NewPoint, Payload, SearchPlan, StoreError, VectorStore

SERVER = os.environ.get("CAPSTAN_TEST_QDRANT_URL")
LOCAL_MODE = "ignore:Payload indexes have no effect:UserWarning"  # the client's in-memory engine says so
pytestmark = pytest.mark.filterwarnings(LOCAL_MODE)
AXES = np.eye(4, dtype=np.float32)


@pytest.fixture(
    params=[
        "edge",
        "client",
        pytest.param("server", marks=pytest.mark.skipif(not SERVER, reason="CAPSTAN_TEST_QDRANT_URL is not set")),
    ]
)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    from qdrant_client import AsyncQdrantClient

    name = f"capstan-test-{uuid.uuid4().hex[:8]}"
    made: VectorStore
    if request.param == "edge":
        made = EdgeStore(tmp_path / "store", 4)
    elif request.param == "client":
        made = ServerStore(AsyncQdrantClient(":memory:"), name, 4)
    else:
        made = ServerStore.connect(str(SERVER), None, name, 4)
    yield made
    if request.param == "server":
        await AsyncQdrantClient(url=SERVER).delete_collection(name)
    await made.close()


def point(
    text: str, *, document: str = "d", tenant: str = "a", index: int = 0, chunks: int = 1, source: str = "man"
) -> NewPoint:
    payload = Payload(tenant, document, "r1", "Title", ["Usage"], text, index, chunks, source=source)
    return NewPoint(str(uuid.uuid4()), payload, Lexicon().document(text))


def plan(
    query: str | None,
    axis: int | None,
    *,
    tenants: tuple[str, ...] = ("a", "shared"),
    limit: int = 10,
    source: str | None = None,
    fusion: Fusion | None = None,
    exclude: tuple[str, ...] = (),
) -> SearchPlan:
    bm25 = Lexicon().query(query) if query else None
    return SearchPlan(tenants, limit, bm25, None if axis is None else AXES[axis], source, fusion or Fusion(), exclude)


async def put(store: VectorStore, *points: NewPoint, dense: bool = True) -> None:
    await store.upsert(points)
    if dense:
        await store.set_dense([p.id for p in points], AXES[: len(points)])


async def test_a_chunk_comes_back_as_it_was_written(store: VectorStore) -> None:
    written = point("replication slots keep the log")
    await put(store, written)
    for found in (await store.search(plan("replication", None)), await store.search(plan(None, 0))):
        assert [(hit.id, hit.payload) for hit in found] == [(written.id, written.payload)]
    assert (await store.search(plan(None, 0)))[0].score == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
async def test_a_tenant_finds_its_own_chunks_and_the_shared_ones_only(store: VectorStore, mode: Mode) -> None:
    mine, shared, other = (point("same words", document=t, tenant=t) for t in ("a", "shared", "b"))
    await store.upsert([mine, shared, other])
    await store.set_dense([mine.id, shared.id, other.id], AXES[[0, 0, 0]])
    query, axis = (None if mode == "dense" else "words"), (None if mode == "bm25" else 0)
    assert {h.id for h in await store.search(plan(query, axis))} == {mine.id, shared.id}
    assert {h.id for h in await store.search(plan(query, axis, tenants=("nobody",)))} == set()


def test_a_search_for_nobody_is_a_mistake_and_not_a_search_of_everything() -> None:
    with pytest.raises(ValueError, match="without a tenant"):
        plan("words", 0, tenants=())


async def test_the_filter_stands_inside_each_prefetch(store: VectorStore) -> None:
    """With a filter after the fusion, a crowd of another tenant's better matches would leave nothing."""
    crowd = [point("needle", document=f"b{n}", tenant="b") for n in range(30)]
    mine = point("a needle in much other hay that makes it weaker")
    await store.upsert([*crowd, mine])
    await store.set_dense([p.id for p in [*crowd, mine]], np.stack([AXES[0]] * 30 + [AXES[0] + AXES[1]]))
    found = await store.search(plan("needle", 0, fusion=Fusion(candidates=5)))
    assert [hit.id for hit in found] == [mine.id]


async def test_source_narrows_every_mode(store: VectorStore) -> None:
    await put(store, point("same words", source="man"), wanted := point("same words", source="perl"))
    for query, axis in (("words", None), (None, 1), ("words", 1)):
        assert [h.id for h in await store.search(plan(query, axis, source="perl"))] == [wanted.id]


async def test_excluded_documents_are_left_out_of_each_list_before_it_is_cut(store: VectorStore) -> None:
    withheld = [point("needle", document="gold", index=n, chunks=20) for n in range(20)]
    other = point("a needle in hay", document="other")
    await store.upsert([*withheld, other])
    await store.set_dense([p.id for p in [*withheld, other]], np.stack([AXES[0]] * 20 + [AXES[0] + AXES[1]]))
    for query, axis in (("needle", None), (None, 0), ("needle", 0)):
        found = await store.search(plan(query, axis, limit=5, exclude=("gold", "nowhere"), fusion=Fusion(candidates=5)))
        assert [hit.id for hit in found] == [other.id]
    both = plan("needle", 0, source="man", exclude=("gold", "other"))
    assert await store.search(both) == []


async def test_chunks_come_in_the_documents_order_and_of_one_tenants_document(store: VectorStore) -> None:
    parts = [point(f"part {n}", index=n, chunks=12) for n in range(12)]
    await put(store, *reversed(parts), point("x", document="e"), point("x", tenant="b"), dense=False)
    page = await store.chunks("a", "d", 3, 4)
    assert [(c.id, c.chunk_index, c.text, c.heading) for c in page] == [
        (parts[n].id, n, f"part {n}", ["Usage"]) for n in (3, 4, 5, 6)
    ]
    assert [c.chunk_index for c in await store.chunks("a", "d", 10, 50)] == [10, 11]
    assert await store.chunks("a", "d", 12, 50) == []
    assert await store.chunks("c", "d", 0, 50) == []


async def test_reciprocal_rank_fusion_is_the_textbook_formula(store: VectorStore) -> None:
    both, lexical, dense = point("needle needle"), point("needle and more words"), point("nothing of it")
    await store.upsert([both, lexical, dense])
    await store.set_dense([both.id, dense.id], np.stack([AXES[0] + AXES[1], AXES[0]]))
    scores = {h.id: h.score for h in await store.search(plan("needle", 0, fusion=Fusion(rrf_k=60)))}
    assert scores[both.id] == pytest.approx(1 / 61 + 1 / 62)
    assert scores[dense.id] == pytest.approx(1 / 61)
    assert scores[lexical.id] == pytest.approx(1 / 62)


async def test_a_weight_of_zero_leaves_the_order_to_the_other_list(store: VectorStore) -> None:
    lexical, dense = point("needle"), point("nothing")
    await store.upsert([lexical, dense])
    await store.set_dense([dense.id], AXES[:1])
    for weights, best in (((1.0, 0.0), lexical), ((0.0, 1.0), dense)):
        fusion = Fusion(bm25_weight=weights[0], dense_weight=weights[1])
        assert (await store.search(plan("needle", 0, fusion=fusion)))[0].id == best.id


async def test_distribution_based_fusion_finds_both_lists(store: VectorStore) -> None:
    lexical, dense = point("needle"), point("nothing")
    await store.upsert([lexical, dense])
    await store.set_dense([dense.id], AXES[:1])
    found = await store.search(plan("needle", 0, fusion=Fusion(kind="dbsf")))
    assert {h.id for h in found} == {lexical.id, dense.id}


async def test_what_has_no_dense_vector_is_pending_until_it_gets_one(store: VectorStore) -> None:
    first, second = point("one"), point("two", document="e")
    await put(store, first, second, dense=False)
    assert {id for id, _ in await store.pending(10, [])} == {first.id, second.id}
    assert [id for id, _ in await store.pending(10, [first.id])] == [second.id]
    assert await store.set_dense([first.id], AXES[:1]) == 1
    assert [(id, payload) for id, payload in await store.pending(10, [])] == [(second.id, second.payload)]
    counts = await store.counts(None)
    assert (counts.documents, counts.chunks, counts.embedded, counts.pending) == (2, 2, 1, 1)


async def test_a_chunk_deleted_while_it_was_being_embedded_stays_deleted(store: VectorStore) -> None:
    gone, there = point("one"), point("two")
    await put(store, gone, there, dense=False)
    await store.delete([gone.id])
    assert await store.set_dense([gone.id, there.id], AXES[:2]) == 1
    assert (await store.counts(None)).chunks == 1


async def test_new_payload_fields_leave_the_vectors(store: VectorStore) -> None:
    p = point("one")
    await put(store, p)
    await store.update_payload([p.id], {"revision": "r2"})
    found = (await store.search(plan("one", 0)))[0]
    assert (found.payload.revision, found.payload.text) == ("r2", "one")
    assert (await store.counts(None)).embedded == 1


async def test_stored_lists_one_tenants_chunks_of_the_asked_documents(store: VectorStore) -> None:
    mine = [point(f"part {n}", index=n, chunks=2) for n in range(2)]
    await put(store, *mine, point("x", document="e"), point("x", tenant="b"), dense=False)
    assert {p.id for p in await store.stored("a", ["d", "unknown"])} == {p.id for p in mine}


async def test_pages_of_documents_hold_each_document_once(store: VectorStore) -> None:
    for n in range(5):
        await store.upsert([point(f"part {i}", document=f"d/{n}", index=i, chunks=3) for i in range(3)])
    await put(store, point("theirs", document="x", tenant="b"))
    seen: list[str] = []
    cursor = None
    while True:
        rows, cursor = await store.documents(["a", "shared"], 2, cursor)
        assert len(rows) <= 2
        seen += [row.id for row in rows]
        if cursor is None:
            break
    assert sorted(seen) == [f"d/{n}" for n in range(5)]


async def test_a_document_row_counts_its_embedded_chunks(store: VectorStore) -> None:
    parts = [point(f"part {i}", index=i, chunks=3) for i in range(3)]
    await put(store, *parts, dense=False)
    await store.set_dense([parts[1].id], AXES[:1])
    row = await store.document("a", "d")
    assert row is not None
    assert (row.chunks, row.embedded, row.revision) == (3, 1, "r1")
    assert await store.document("b", "d") is None


async def test_more_points_than_one_write_takes(store: VectorStore) -> None:
    points = [point(f"word{n}", document=str(n)) for n in range(600)]
    await store.upsert(points)
    assert (await store.counts(["a"])).documents == 600
    await store.delete([p.id for p in points])
    assert (await store.counts(["a"])).chunks == 0


async def test_term_rarity_is_that_of_what_the_tenant_can_read(tmp_path: Path) -> None:
    """Other tenants' documents must not shift a tenant's scores (the client's in-memory engine ignores this)."""
    store = EdgeStore(tmp_path / "store", 4)
    await store.upsert([point("rare word"), point("common word", document="e")])
    before = [(h.id, h.score) for h in await store.search(plan("rare", None))]
    await store.upsert([point("rare", document=str(n), tenant="b") for n in range(50)])
    assert [(h.id, h.score) for h in await store.search(plan("rare", None))] == before
    await store.close()


async def test_the_embedded_store_opens_again_with_everything_in_it(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "store", 4)
    p = point("kept")
    await put(store, p)
    await store.close()
    store = EdgeStore(tmp_path / "store", 4)
    assert [h.id for h in await store.search(plan("kept", 0))] == [p.id]
    await store.close()


async def test_a_second_process_is_told_that_the_files_are_in_use(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "store", 4)
    with pytest.raises(StoreError, match="another process has it open"):
        EdgeStore(tmp_path / "store", 4)
    await store.close()


async def test_a_server_that_is_away_is_a_store_error() -> None:
    store = ServerStore.connect("http://127.0.0.1:9", None, "capstan-test", 4)
    with pytest.raises(StoreError, match="Qdrant server"):
        await store.counts(None)
    await store.close()


async def test_equal_ranks_in_two_lists_come_in_the_same_order_each_time(store: VectorStore) -> None:
    """Rank n by BM25 and rank n by meaning are equal scores; the engine alone returns them in any order."""
    lexical = [point("needle " * (9 - n)) for n in range(8)]
    dense = [point("nothing") for _ in range(8)]
    await store.upsert([*lexical, *dense])
    await store.set_dense([p.id for p in dense], np.stack([AXES[0] + n / 10 * AXES[1] for n in range(8)]))
    answers = [await store.search(plan("needle", 0, limit=limit)) for limit in (5, 5, 5, 10, 16)]
    scores = [hit.score for hit in answers[-1]]
    assert len(set(scores)) == len(scores) / 2
    assert [hit.id for hit in answers[-1]] == [hit.id for hit in sorted(answers[-1], key=lambda h: (-h.score, h.id))]
    for answer in answers:
        assert answer == answers[-1][: len(answer)]
