"""Builds a new index from the one in use, while that one is searched and written, and has it take over.

What decides is the index in use: the new one is made to hold the same documents at the same revisions,
whatever it held before. So a build that was killed goes on where it was, and going back to an index that
is still there is a build with little to do. Writes during the build go to the index in use, then to the
new one; copying and writing take turns, so that an older revision never lands on a newer one.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from capstan.retriever.embedder import Embedder
from capstan.retriever.index import Index
from capstan.retriever.ingest import Ingest, NewDocument, is_current
from capstan.retriever.metrics import Metrics
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import DocumentRow, StoredPoint, VectorStore
from capstan.retriever.stored import as_they_are, documents, same_chunks

log = logging.getLogger(__name__)

_PAGE = 32  # documents copied while writes wait
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True, slots=True)
class Successor:
    """An index to build; `switch` makes it the one that the next start serves from."""

    settings: RetrieverSettings
    store: VectorStore
    embedder: Embedder
    switch: Callable[[], Awaitable[None]]


class Build:
    """One build, from `old` to `new`."""

    def __init__(
        self,
        old: Index,
        new: Index,
        writes: asyncio.Lock,
        take_over: Callable[[], Awaitable[None]],
        metrics: Metrics,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`writes` is held by whoever writes; `take_over` is called once, under it, when `new` is complete."""
        self.new = new
        self._old = old
        self._writes = writes
        self._take_over = take_over
        self._metrics = metrics
        self._pause = pause
        self._missed = False
        """A write reached the old index only."""
        windows = old.settings.window_overlap if old.settings.chunking == "window" else 0
        self._overlap = None if same_chunks(old.settings, new.settings) else windows
        self._copies = Ingest(new.store, as_they_are, new.view) if self._overlap is None else new.ingest

    async def run(self) -> None:
        """Build, and try again with growing pauses while a store is away; returns when the new index is in use."""
        log.info("building an index beside the one in use", extra={"model": self.new.settings.model})
        pause = _FIRST_PAUSE_S
        while True:
            try:
                if await self.once():
                    log.info("the new index is in use", extra={"model": self.new.settings.model})
                    return
            except Exception:
                self._metrics.build_failures.inc()
                log.exception("building the new index failed; the one in use serves, next try in %.0f s", pause)
                await self._pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def once(self) -> bool:
        """Copy, embed and take over. False if a write was missed meanwhile: then all of it once more."""
        self._missed = False
        await self._copy()
        await self._remove()
        await self._embed()
        async with self._writes:
            if self._missed:
                return False
            await self._embed()  # what was written since
            await self.new.store.flush()
            await self._take_over()
            return True

    async def put(self, tenant: str, batch: list[NewDocument]) -> None:
        """The same write for the new index. The client has its answer from the old one: a failure is made up for."""
        await self._follow(self.new.ingest.ingest(tenant, batch))

    async def delete(self, tenant: str, document_id: str) -> None:
        """The same deletion for the new index."""
        await self._follow(self.new.ingest.delete(tenant, document_id))

    async def _follow(self, write: Coroutine[Any, Any, object]) -> None:
        try:
            await write
        except Exception:
            self._missed = True
            self._metrics.build_failures.inc()
            log.exception("a write did not reach the index that is being built; it is copied before the switch")

    async def _copy(self) -> None:
        """Every document of the old index that the new one does not hold at the same revision."""
        cursor: str | None = None
        while True:
            rows, cursor = await self._old.store.documents(None, _PAGE, cursor)
            for tenant, mine in _by_tenant(rows).items():
                async with self._writes:
                    await self._copy_of_one(tenant, mine)
            if cursor is None:
                return

    async def _copy_of_one(self, tenant: str, rows: list[DocumentRow]) -> None:
        there: dict[str, list[StoredPoint]] = defaultdict(list)
        for point in await self.new.store.stored(tenant, [row.id for row in rows]):
            there[point.document_id].append(point)
        wanted = {row.id for row in rows if not is_current(there[row.id], row.revision)}
        # read now: since the page was listed they may have changed, or gone
        payloads = await self._old.store.payloads(tenant, sorted(wanted)) if wanted else []
        if payloads:
            await self._copies.ingest(tenant, documents(payloads, self._overlap))

    async def _remove(self) -> None:
        """Every document of the new index that the old one does not hold: deleted while no build was running."""
        cursor: str | None = None
        while True:
            rows, cursor = await self.new.store.documents(None, _PAGE, cursor)
            for tenant, mine in _by_tenant(rows).items():
                async with self._writes:
                    kept = {p.document_id for p in await self._old.store.stored(tenant, [row.id for row in mine])}
                    for row in mine:
                        if row.id not in kept:
                            await self.new.ingest.delete(tenant, row.id)
            if cursor is None:
                return

    async def _embed(self) -> None:
        """All chunks but those that fail again and again, which stay findable by BM25 as in any index."""
        while await self.new.worker.step():
            pass


def _by_tenant(rows: list[DocumentRow]) -> dict[str, list[DocumentRow]]:
    grouped: dict[str, list[DocumentRow]] = defaultdict(list)
    for row in rows:
        grouped[row.tenant].append(row)
    return grouped
