from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from capstan.retriever.chunking import Section
from capstan.retriever.ingest import Ingest, InvalidDocument, NewDocument
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.state import Retriever
from capstan.retriever.store import Fusion, NewPoint, SearchPlan


class Crash(BaseException):
    """The process ends here."""


def doc(id: str = "d", *texts: str, revision: str | None = None, **fields: Any) -> NewDocument:
    sections = tuple(
        Section((f"Part {n}",), text + " filler words to be of some size" * 2) for n, text in enumerate(texts)
    )
    return NewDocument(id, "Title", sections, revision=revision, **fields)


@pytest.fixture
def ingest(retriever: Retriever) -> Ingest:
    return retriever.ingest


async def found(retriever: Retriever, query: str, tenant: str = "a") -> list[str]:
    bm25 = retriever.lexicon.query(query)
    return [h.payload.text for h in await retriever.store.search(SearchPlan((tenant,), 10, bm25, None, None, Fusion()))]


async def test_a_document_is_created_then_unchanged_then_updated(ingest: Ingest) -> None:
    assert [o.status for o in await ingest.ingest("a", [doc("d", "one", "two")])] == ["created"]
    assert [o.status for o in await ingest.ingest("a", [doc("d", "one", "two")])] == ["unchanged"]
    assert [o.status for o in await ingest.ingest("a", [doc("d", "one", "three")])] == ["updated"]


async def test_a_given_revision_decides_instead_of_the_content(ingest: Ingest) -> None:
    await ingest.ingest("a", [doc("d", "one", revision="r1")])
    assert (await ingest.ingest("a", [doc("d", "other", revision="r1")]))[0].status == "unchanged"
    assert (await ingest.ingest("a", [doc("d", "one", revision="r2")]))[0].status == "updated"


async def test_an_update_replaces_all_chunks_and_keeps_the_vectors_of_those_that_stay(
    retriever: Retriever, ingest: Ingest
) -> None:
    await ingest.ingest("a", [doc("d", "stays", "goes", "goes too")])
    await retriever.worker.step()
    await ingest.ingest("a", [doc("d", "stays", "arrives")])
    row = await retriever.store.document("a", "d")
    assert row is not None
    assert (row.chunks, row.embedded) == (2, 1)
    assert await found(retriever, "goes") == []
    assert len(await found(retriever, "arrives")) == 1


async def test_a_new_url_reaches_chunks_whose_text_stays(retriever: Retriever, ingest: Ingest) -> None:
    await ingest.ingest("a", [doc("d", "one", url="old")])
    await retriever.worker.step()
    await ingest.ingest("a", [doc("d", "one", url="new")])
    hits = await retriever.store.search(SearchPlan(("a",), 1, retriever.lexicon.query("one"), None, None, Fusion()))
    assert hits[0].payload.url == "new"
    assert (await retriever.store.counts(None)).pending == 0


async def test_a_shorter_document_leaves_no_tail(retriever: Retriever, ingest: Ingest) -> None:
    await ingest.ingest("a", [doc("d", *(f"part{n}" for n in range(20)))])
    await ingest.ingest("a", [doc("d", "part0")])
    assert (await retriever.store.counts(["a"])).chunks == 1


async def test_two_tenants_have_their_own_document_of_one_id(retriever: Retriever, ingest: Ingest) -> None:
    await ingest.ingest("a", [doc("d", "apples")])
    await ingest.ingest("b", [doc("d", "bananas")])
    assert await ingest.delete("a", "d") == 1
    assert len(await found(retriever, "bananas", "b")) == 1


@pytest.mark.parametrize("dies_in", ["upsert", "delete"])
async def test_a_crash_during_an_update_leaves_the_document_findable_and_the_next_ingest_cleans_up(
    retriever: Retriever, ingest: Ingest, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    await ingest.ingest("a", [doc("d", "alpha", "old tail", revision="r1")])
    upsert = retriever.store.upsert

    async def half(points: Sequence[NewPoint]) -> None:
        await upsert(points[:1])
        raise Crash

    async def nothing(ids: Sequence[str]) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(retriever.store, dies_in, half if dies_in == "upsert" else nothing)
        with pytest.raises(Crash):
            await ingest.ingest("a", [doc("d", "beta", "gamma", revision="r2")])
    assert len(await found(retriever, "alpha")) == 1  # the old is still there
    assert (await ingest.ingest("a", [doc("d", "beta", "gamma", revision="r2")]))[0].status == "updated"
    assert await found(retriever, "alpha") == []
    assert len(await found(retriever, "gamma")) == 1
    assert (await retriever.store.counts(["a"])).chunks == 2
    assert (await ingest.ingest("a", [doc("d", "beta", "gamma", revision="r2")]))[0].status == "unchanged"


async def test_a_crash_during_a_first_ingest_is_not_taken_for_a_finished_one(
    retriever: Retriever, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = retriever.store.upsert

    async def half(points: Sequence[NewPoint]) -> None:
        await upsert(points[:1])
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(retriever.store, "upsert", half)
        with pytest.raises(Crash):
            await ingest.ingest("a", [doc("d", "beta", "gamma")])
    await ingest.ingest("a", [doc("d", "beta", "gamma")])
    assert (await retriever.store.counts(["a"])).chunks == 2


@pytest.mark.parametrize(
    ("batch", "named"),
    [
        ([doc("x", "one"), doc("y", "two"), doc("x", "three")], "'x' is 2 times"),
        ([doc("x", "one"), NewDocument("empty", "T", (Section((), " \n"),))], "'empty' has no text"),
        ([doc("x", "one"), NewDocument("none", "T", ())], "'none' has no text"),
    ],
)
async def test_a_batch_with_a_mistake_is_refused_whole(
    retriever: Retriever, ingest: Ingest, batch: list[NewDocument], named: str
) -> None:
    with pytest.raises(InvalidDocument, match=named):
        await ingest.ingest("a", batch)
    assert (await retriever.store.counts(None)).chunks == 0


async def test_windows_ignore_sections_and_overlap(settings: RetrieverSettings, retriever: Retriever) -> None:
    changed = settings.model_copy(update={"chunking": "window", "chunk_tokens": 40, "window_overlap": 10})
    ingest = Retriever(changed, retriever.store, retriever.embedder).ingest
    await ingest.ingest("a", [doc("d", *("word" for _ in range(6)))])
    chunks = await retriever.store.chunks("a", "d", 0, 100)
    assert any("Part" in chunk.text for chunk in chunks)  # a heading inside a window
    for before, after in pairwise(chunks):
        assert any(before.text.endswith(after.text[:length]) for length in range(10, len(after.text)))


async def test_without_heading_paths_a_chunk_is_found_by_its_text_alone(
    settings: RetrieverSettings, retriever: Retriever, embedder: Any
) -> None:
    plain = Retriever(settings.model_copy(update={"heading_path": False}), retriever.store, embedder)
    await plain.ingest.ingest("a", [NewDocument("d", "Zebra", (Section(("Stripes",), "It is an animal."),))])
    await plain.worker.step()
    assert embedder.texts == ["It is an animal."]
    assert await found(retriever, "zebra stripes") == []
    assert await found(retriever, "animal") == ["It is an animal."]
    await plain.ingest.ingest("a", [NewDocument("d", "Okapi", (Section(("Legs",), "It is an animal."),))])
    hits = await retriever.store.chunks("a", "d", 0, 10)
    assert [chunk.heading for chunk in hits] == [["Legs"]]  # shown, and kept up to date
