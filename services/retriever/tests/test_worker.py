import asyncio

import pytest
from prometheus_client import CollectorRegistry

from capstan.retriever.chunking import Section
from capstan.retriever.ingest import NewDocument
from capstan.retriever.state import Retriever
from capstan.retriever.store import Floats, StoreError
from capstan.retriever.worker import Worker


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(retriever: Retriever, clock: Clock) -> Worker:
    return Worker(retriever.store, retriever.embedder, retriever.metrics, threads=2, now=clock)


async def put(retriever: Retriever, *texts: str) -> None:
    documents = [NewDocument(f"d{n}", "", (Section((), text),)) for n, text in enumerate(texts)]
    await retriever.ingest.ingest("a", documents)


def sample(registry: CollectorRegistry, name: str) -> float | None:
    return registry.get_sample_value(f"capstan_retriever_{name}")


async def test_everything_pending_is_embedded_and_reported(retriever: Retriever, worker: Worker) -> None:
    await put(retriever, *(f"text number {n}" for n in range(200)))
    await worker.wake()
    assert worker.progress.coverage == 0
    while await worker.step():
        pass
    assert (await retriever.store.counts(None)).pending == 0
    assert worker.progress.coverage == 1
    assert sample(retriever.metrics.registry, "chunks_pending") == 0
    assert sample(retriever.metrics.registry, "embedding_seconds_count") == 200
    assert sample(retriever.metrics.registry, "embedded_total") == 200


async def test_a_new_worker_takes_up_what_the_last_one_left(retriever: Retriever, worker: Worker) -> None:
    await put(retriever, *(f"text number {n}" for n in range(200)))
    await worker.step()
    left = (await retriever.store.counts(None)).pending
    assert 0 < left < 200
    successor = Worker(retriever.store, retriever.embedder, retriever.metrics, threads=1)
    assert await successor.step() == left
    assert (await retriever.store.counts(None)).pending == 0


async def test_a_text_that_cannot_be_embedded_costs_only_itself(
    retriever: Retriever, worker: Worker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    retriever.embedder.poison = "poisoned"  # type: ignore[attr-defined]
    await put(retriever, "good text", "poisoned text", "more good text")
    await worker.step()
    assert (await retriever.store.counts(None)).embedded == 2
    assert sample(retriever.metrics.registry, "embedding_failures_total") == 1
    assert sample(retriever.metrics.registry, "embedded_total") == 2
    assert caplog.records[0].__dict__["document_id"] == "d1"


async def test_a_failed_text_is_tried_again_after_growing_pauses(
    retriever: Retriever, worker: Worker, clock: Clock
) -> None:
    retriever.embedder.poison = "poisoned"  # type: ignore[attr-defined]
    await put(retriever, "poisoned text")
    tries = []
    for second in range(60):
        clock.now = 1000.0 + second
        if await worker.step():
            tries.append(second)
    assert tries == [0, 5, 15, 35]
    retriever.embedder.poison = None  # type: ignore[attr-defined]
    clock.now += 60
    await worker.step()
    assert (await retriever.store.counts(None)).pending == 0


async def test_a_store_that_is_away_for_a_moment_does_not_end_the_worker(
    retriever: Retriever, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(retriever, "text")
    store, failures = retriever.store, [StoreError("away"), StoreError("away")]
    set_dense = store.set_dense
    embedded = asyncio.Event()

    async def flaky(ids: list[str], vectors: Floats) -> int:
        if failures:
            raise failures.pop()
        embedded.set()
        return await set_dense(ids, vectors)

    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(store, "set_dense", flaky)
    worker = Worker(store, retriever.embedder, retriever.metrics, threads=1, now=clock, pause=pause)
    task = asyncio.create_task(worker.run())
    await embedded.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pauses == [5.0, 10.0]
