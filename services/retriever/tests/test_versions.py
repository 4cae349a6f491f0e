"""Versions of the index: built beside the one in use, switched by alias, on both stores."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from capstan.retriever.build import Successor
from capstan.retriever.chunking import Section
from capstan.retriever.ingest import NewDocument
from capstan.retriever.server_catalog import ServerCatalog
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.state import Retriever
from capstan.retriever.store import Floats, Fusion, Hit, SearchPlan, StoreError
from capstan.retriever.versions import Catalog, EdgeCatalog, Version, settle, switch

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
SECRET = "a test secret of more than thirty-two characters"
Settings = Callable[..., RetrieverSettings]
ANIMALS = ("ants", "bees", "cats", "dogs", "eels", "foxes")
TEXTS = {f"d{n}": f"Text {n} is about {ANIMALS[n % 6]} and {n} more." for n in range(9)}


class Killed(BaseException):
    """The process ends here."""


class SaltedEmbedder:
    """Bags of words, hashed in a way of its own for each model; texts with "poison" cannot be embedded."""

    runtime = "test"

    def __init__(self, model: str) -> None:
        self.salt = model
        self.dimensions = 24 if model == "file:/new" else 32
        self.texts: list[str] = []

    def count_words(self, words: list[str]) -> list[int]:
        return [1 + len(word) // 6 for word in words]

    def embed(self, text: str) -> Floats:
        if "poison" in text:
            raise RuntimeError("poison")
        self.texts.append(text)
        vector = np.full(self.dimensions, 1e-3, dtype=np.float32)
        for word in text.lower().split():
            vector[hashlib.sha256(f"{self.salt}{word}".encode()).digest()[0] % self.dimensions] += 1
        return vector / np.linalg.norm(vector)


class World:
    """A retriever that is stopped and started; what it stored stays."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.retriever: Retriever | None = None

    async def start(self, settings: RetrieverSettings) -> Retriever:
        """As `main` does it, with embedders that cost nothing."""
        await self.stop()
        wanted, embedder = Version.of(settings), SaltedEmbedder(settings.model)
        serving = await settle(self.catalog, wanted, embedder.dimensions)
        successor = None
        if serving.name != wanted.name:
            store = self.catalog.open(wanted.name, embedder.dimensions)
            successor = Successor(settings, store, embedder, partial(switch, self.catalog, wanted))
            settings = serving.applied(settings)
            embedder = SaltedEmbedder(settings.model)
        self.retriever = Retriever(settings, self.catalog.open(serving.name, embedder.dimensions), embedder, successor)
        return self.retriever

    async def stop(self) -> None:
        if self.retriever is not None and isinstance(self.catalog, EdgeCatalog):
            build = self.retriever.build
            for store in (*self.retriever._retired, *([build.new.store] if build else []), self.retriever.store):
                await store.close()
        self.retriever = None


@pytest.fixture(params=["edge", "client"])
async def make_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], World]]:
    """Makes worlds that do not know of each other."""
    worlds: list[World] = []

    def make() -> World:
        directory, client = tmp_path / str(len(worlds)), AsyncQdrantClient(":memory:")
        worlds.append(World(EdgeCatalog(directory) if request.param == "edge" else ServerCatalog(client)))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.stop()


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    return make_world()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    def make(model: str = "file:/old", **changed: Any) -> RetrieverSettings:
        given = {"identity_secret": SECRET, "chunk_tokens": 60, "small_tokens": 0, "embed_threads": 1}
        return RetrieverSettings.model_validate({**given, "model": model, **changed})

    return make


def doc(id: str, *texts: str, **fields: Any) -> NewDocument:
    sections = tuple(Section((f"Part {n}",), text) for n, text in enumerate(texts))
    return NewDocument(id, f"About {id}", sections, **fields)


async def fill(retriever: Retriever, texts: dict[str, str] = TEXTS, tenant: str = "a") -> None:
    await retriever.put(tenant, [doc(id, text, f"{text} And again.", url=f"x:{id}") for id, text in texts.items()])
    while await retriever.worker.step():
        pass


async def finish(retriever: Retriever) -> None:
    assert retriever.build is not None
    while not await retriever.build.once():
        pass


async def found(retriever: Retriever, tenants: tuple[str, ...] = ("a",)) -> list[list[Hit]]:
    """All hits of every mode, scores included."""
    lists = []
    for query in ("about bees and more", "text 4"):
        bm25, dense = retriever.lexicon.query(query), retriever.embedder.embed(query)
        for plan in ((bm25, dense), (bm25, None), (None, dense)):
            hits = await retriever.store.search(SearchPlan(tenants, 50, *plan, None, Fusion(candidates=50)))
            lists.append(sorted((replace(h, score=round(h.score, 4)) for h in hits), key=lambda h: (-h.score, h.id)))
    return lists


async def fresh(settings: RetrieverSettings, write: Callable[[Retriever], Awaitable[None]], path: Path) -> list[Any]:
    """What is found after an ingest into an empty index."""
    world = World(EdgeCatalog(path))
    retriever = await world.start(settings)
    await write(retriever)
    hits = await found(retriever)
    await world.stop()
    return hits


def everything(hits: list[list[Hit]]) -> list[Any]:
    """Without scores: the client's in-memory engine computes them in its own way."""
    return [sorted((hit.id, hit.payload.text, hit.payload.revision) for hit in one) for one in hits]


async def test_a_built_index_finds_what_a_fresh_ingest_finds(world: World, settings: Settings, tmp_path: Path) -> None:
    retriever = await world.start(settings())
    await fill(retriever)
    retriever = await world.start(settings("file:/new"))
    assert retriever.index.settings.model == "file:/old"
    before = await found(retriever)
    await finish(retriever)
    assert (retriever.index.settings.model, retriever.build) == ("file:/new", None)
    after = await found(retriever)
    expected = await fresh(settings("file:/new"), fill, tmp_path / "fresh")
    if isinstance(world.catalog, EdgeCatalog):  # hybrid: by rank, and equal scores may rank either way
        assert [after[n] for n in (1, 2, 4, 5)] == [expected[n] for n in (1, 2, 4, 5)]
    assert everything(after) == everything(expected)
    assert after != before
    retriever = await world.start(settings("file:/new"))
    assert retriever.build is None
    assert await found(retriever) == after


async def test_the_old_index_answers_and_the_new_one_is_announced(world: World, settings: Settings) -> None:
    await fill(await world.start(settings()))
    retriever = await world.start(settings("file:/new"))
    build = retriever.build
    assert build is not None
    await build._copy()
    counts = await build.new.store.counts(("a",))
    assert (counts.chunks, counts.embedded) == (18, 0)
    assert {hit.payload.document_id for hit in (await found(retriever))[0]} == set(TEXTS)
    assert retriever.worker.progress.coverage == 1.0


async def test_writes_during_the_build_reach_both(world: World, settings: Settings, tmp_path: Path) -> None:
    """A page of documents is listed, then one of them changes, one goes and one comes: the page is stale."""
    await fill(await world.start(settings()))
    retriever = await world.start(settings("file:/new"))
    listed = retriever.store.documents
    pages = 0

    async def change(retriever: Retriever) -> None:
        await retriever.put("a", [doc("d1", "Text 1 is now about bees."), doc("d10", "Text 10 is new.")])
        assert await retriever.delete("a", "d2") == 2

    async def then_change(*page: Any) -> Any:
        nonlocal pages
        rows = await listed(*page)
        pages += 1
        if pages == 1:
            await change(retriever)
        return rows

    retriever.store.documents = then_change  # type: ignore[method-assign]
    await finish(retriever)

    async def written(retriever: Retriever) -> None:
        await fill(retriever)
        await change(retriever)
        while await retriever.worker.step():
            pass

    expected = await fresh(settings("file:/new"), written, tmp_path / "fresh")
    assert everything(await found(retriever)) == everything(expected)
    assert (await retriever.store.counts(None)).pending == 0


async def test_a_build_killed_at_any_write_ends_the_same(
    make_world: Callable[[], World], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capstan.retriever.build._PAGE", 5)
    expected = everything(await fresh(settings("file:/new"), fill, tmp_path / "fresh"))
    for survived in itertools.count():
        world = make_world()
        await fill(await world.start(settings()))
        retriever = await world.start(settings("file:/new"))
        assert retriever.build is not None
        left = itertools.count(survived, -1)

        def dying(write: Any, left: Iterator[int] = left) -> Any:
            async def call(*args: Any) -> Any:
                if next(left) == 0:
                    raise Killed
                return await write(*args)

            return call

        for part, names in (
            (retriever.build.new.store, ("upsert", "delete", "set_dense")),
            (world.catalog, ("write",)),
        ):
            for name in names:
                monkeypatch.setattr(part, name, dying(getattr(part, name)))
        killed = False
        try:
            await finish(retriever)
        except Killed:
            killed = True
            assert everything(await found(retriever)) == expected  # by the old index, with the same texts
        if not killed:
            break
        monkeypatch.setattr(world.catalog, "write", type(world.catalog).write.__get__(world.catalog))
        retriever = await world.start(settings("file:/new"))
        await finish(retriever)
        assert everything(await found(retriever)) == expected
        await world.stop()
    assert survived >= 6


async def test_a_write_that_did_not_reach_the_new_index_is_made_up_for(world: World, settings: Settings) -> None:
    await fill(await world.start(settings()))
    retriever = await world.start(settings("file:/new"))
    build = retriever.build
    assert build is not None
    upsert, embedded = build.new.store.upsert, build._embed

    async def away(points: Any) -> None:
        raise StoreError("away")

    async def and_a_write_fails() -> None:
        await embedded()
        build._embed = embedded  # type: ignore[method-assign]
        build.new.store.upsert = away  # type: ignore[method-assign]
        outcomes = await retriever.put("a", [doc("late", "A late text about bees.")])
        assert outcomes[0].status == "created"
        build.new.store.upsert = upsert  # type: ignore[method-assign]

    build._embed = and_a_write_fails  # type: ignore[method-assign]
    assert await build.once() is False
    assert await build.once() is True
    assert (await retriever.store.document("a", "late")) is not None
    assert "capstan_retriever_build_failures_total 1.0" in _metrics(retriever)


def _metrics(retriever: Retriever) -> str:
    from prometheus_client import generate_latest

    return generate_latest(retriever.metrics.registry).decode()


async def test_a_store_that_is_away_delays_the_build_and_nothing_else(world: World, settings: Settings) -> None:
    await fill(await world.start(settings()))
    retriever = await world.start(settings("file:/new"))
    build = retriever.build
    assert build is not None
    pauses: list[float] = []
    upsert = build.new.store.upsert

    async def away(points: Any) -> None:
        raise StoreError("away")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            build.new.store.upsert = upsert  # type: ignore[method-assign]

    build.new.store.upsert = away  # type: ignore[method-assign]
    build._pause = pause
    await build.run()
    assert pauses == [5.0, 10.0, 20.0]
    assert retriever.index.settings.model == "file:/new"


async def test_going_back_is_immediate_while_the_old_index_is_there(world: World, settings: Settings) -> None:
    await fill(await world.start(settings()))
    await finish(await world.start(settings("file:/new")))
    retriever = await world.start(settings())
    build = retriever.build
    assert build is not None
    assert isinstance(build.new.embedder, SaltedEmbedder)
    await retriever.put("a", [doc("d3", "Text 3 has changed.")])
    await retriever.delete("a", "d4")
    await finish(retriever)
    assert len(build.new.embedder.texts) == 1  # the chunk that changed, and nothing else
    assert {hit.payload.document_id for hit in (await found(retriever))[0]} == set(TEXTS) - {"d4"}


async def test_what_changed_after_the_switch_is_in_the_old_index_after_going_back(
    world: World, settings: Settings
) -> None:
    await fill(await world.start(settings()))
    retriever = await world.start(settings("file:/new"))
    await finish(retriever)
    await retriever.put("a", [doc("d3", "Text 3 has changed.")])
    await retriever.delete("a", "d4")
    while await retriever.worker.step():
        pass
    retriever = await world.start(settings())
    assert {hit.payload.document_id for hit in (await found(retriever))[0]} == set(TEXTS) - {"d4"}
    await finish(retriever)
    texts = {hit.payload.text for hit in (await found(retriever))[0]}
    assert "Text 3 has changed." in texts
    assert not any("Text 4" in text for text in texts)


async def test_the_old_collection_is_deleted_at_the_next_start(world: World, settings: Settings) -> None:
    old, new, third = (Version.of(settings(f"file:/{name}")).name for name in ("old", "new", "third"))
    await fill(await world.start(settings()))
    await finish(await world.start(settings("file:/new")))
    assert await names(world) == {old, new}
    await world.start(settings("file:/new"))
    assert await names(world) == {new}
    await world.start(settings("file:/third"))  # a build that is given up
    assert await names(world) == {new, third}
    retriever = await world.start(settings("file:/new"))
    assert await names(world) == {new}
    assert retriever.build is None
    assert len((await found(retriever))[0]) > 0


async def names(world: World) -> set[str]:
    if isinstance(world.catalog, EdgeCatalog):
        return {path.name for path in world.catalog._directory.iterdir() if path.is_dir()}
    assert isinstance(world.catalog, ServerCatalog)
    collections = (await world.catalog._client.get_collections()).collections
    return {collection.name.removeprefix("capstan-") for collection in collections}


async def test_tenants_stay_apart_and_a_text_that_cannot_be_embedded_stays_findable(
    world: World, settings: Settings
) -> None:
    retriever = await world.start(settings())
    await fill(retriever)
    await fill(retriever, {"d1": "The other tenant's bees."}, tenant="b")
    await retriever.put("a", [doc("p", "A poison about bees.")])
    retriever = await world.start(settings("file:/new"))
    await finish(retriever)
    of_b = (await found(retriever, ("b",)))[0]
    assert {hit.payload.document_id for hit in of_b} == {"d1"}
    assert all("other tenant" in hit.payload.text for hit in of_b)
    assert any("poison" in hit.payload.text for hit in (await found(retriever))[1])
    counts = await retriever.store.counts(None)
    assert (counts.documents, counts.pending) == (11, 1)


LONG = "\n\n".join(" ".join(f"word{n}x{i}" for i in range(8)) + "." for n in range(12))


@pytest.mark.parametrize(
    "changed",
    [{"chunk_tokens": 40}, {"chunk_tokens": 120}, {"chunking": "window", "window_overlap": 10}],
    ids=["smaller", "larger", "windows"],
)
async def test_other_chunk_settings_cut_anew_without_loss(
    world: World, settings: Settings, changed: dict[str, Any]
) -> None:
    retriever = await world.start(settings())
    await retriever.put("a", [doc("d", LONG, "A small section.", revision="r7")])
    before = await retriever.store.chunks("a", "d", 0, 100)
    for there in (settings(**changed), settings()):  # and back
        retriever = await world.start(there)
        await finish(retriever)
        after = await retriever.store.chunks("a", "d", 0, 100)
        assert {chunk.revision for chunk in after} == {"r7"}
        words = [word for chunk in after for word in chunk.text.split()]
        assert set(words) >= set(f"{LONG} A small section.".split())
        assert after != before or there == settings()
    assert words.count("word5x5") == 1  # what windows shared is there once again


async def test_an_index_of_before_there_were_aliases_is_adopted(tmp_path: Path, settings: Settings) -> None:
    world = World(EdgeCatalog(tmp_path))
    await fill(await world.start(settings()))
    await world.stop()
    (tmp_path / "current").unlink()
    retriever = await world.start(settings())
    assert retriever.build is None
    assert (await retriever.store.counts(None)).documents == len(TEXTS)
    assert (tmp_path / "current").exists()
    await world.stop()


@pytest.mark.parametrize("content", ["", "{}", '{"version": 1}'])
async def test_an_alias_that_cannot_be_read_says_what_to_do(tmp_path: Path, settings: Settings, content: str) -> None:
    (tmp_path / "current").write_text(content)
    with pytest.raises(StoreError, match="restore it, or delete it"):
        await settle(EdgeCatalog(tmp_path), Version.of(settings()), 32)


async def test_two_replicas_that_build_the_same_switch_once(settings: Settings) -> None:
    client = AsyncQdrantClient(":memory:")
    one, two = World(ServerCatalog(client)), World(ServerCatalog(client))
    await fill(await one.start(settings()))
    first, second = await one.start(settings("file:/new")), await two.start(settings("file:/new"))
    await asyncio.gather(finish(first), finish(second))
    alias = await one.catalog.read()
    assert alias is not None
    assert (alias.version, alias.previous) == (Version.of(settings("file:/new")), Version.of(settings()).name)
    assert everything(await found(first)) == everything(await found(second))
    await client.close()
