"""The embedding worker: gives every pending chunk its dense vector, behind the searches.

Its threads run at low priority and embed one text each, so a text that cannot be embedded costs only
itself: it is tried again later, with growing pauses, and stays findable by BM25 meanwhile.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from capstan.retriever.embedder import Embedder, View, view
from capstan.retriever.metrics import Metrics
from capstan.retriever.store import Counts, Floats, Payload, VectorStore

log = logging.getLogger(__name__)

WINDOW = 128  # chunks between two looks at the store
_PROGRESS_EVERY_S = 10.0
_LOOK_AGAIN_S = 30.0  # another replica may have written
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 600.0
_NICENESS = 10
_HOLD_OFF_S = 5.0
_LONGEST_HOLD_OFF_S = 120.0  # under a steady stream of writes embedding goes on beside them


@dataclass(slots=True)
class _Failure:
    times: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Speed over the last windows; `eta_s` is None when nothing is being embedded."""

    counts: Counts
    per_s: float

    @property
    def eta_s(self) -> float | None:
        """Seconds until nothing is pending."""
        return self.counts.pending / self.per_s if self.per_s > 0 else None

    @property
    def coverage(self) -> float:
        """The part of all chunks that dense search can find."""
        return self.counts.embedded / self.counts.chunks if self.counts.chunks else 1.0


class Worker:
    """Runs until cancelled."""

    def __init__(
        self,
        store: VectorStore,
        embedder: Embedder,
        metrics: Metrics,
        *,
        threads: int,
        view: View = view,
        in_use: bool = True,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._metrics = metrics
        self._view = view
        self.in_use = in_use
        """Whether searches go to this index: the gauges show its size."""
        self._now = now
        self._pause = pause
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="embed", initializer=_lower_priority)
        self._written_at = -_HOLD_OFF_S + now()
        self._wake = asyncio.Event()
        self._failures: dict[str, _Failure] = {}
        self._logged_at = -_PROGRESS_EVERY_S
        self.progress = Progress(Counts(0, 0, 0), 0.0)

    async def wake(self) -> None:
        """There is new work: count it at once, so that coverage and gauges do not lag behind."""
        await self._report(0, 0.0)
        self._written_at = self._now()
        self._wake.set()

    async def run(self) -> None:
        """Embed what is pending, then wait for more."""
        pause = _FIRST_PAUSE_S
        try:
            while True:
                await self._let_writes_finish()
                try:
                    worked = await self.step()
                    pause = _FIRST_PAUSE_S
                except Exception:
                    log.exception("the embedding worker could not reach the store; next try in %.0f s", pause)
                    await self._pause(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_S)
                    continue
                if not worked:
                    await self._idle()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _let_writes_finish(self) -> None:
        """A load in progress goes first: being findable matters before being embedded."""
        began = self._now()
        while (wait := self._written_at + _HOLD_OFF_S - self._now()) > 0 and self._now() - began < _LONGEST_HOLD_OFF_S:
            await self._pause(wait)

    async def _idle(self) -> None:
        waits = [failure.retry_at - self._now() for failure in self._failures.values()]
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(0.1, min([_LOOK_AGAIN_S, *waits])))
        self._wake.clear()

    async def step(self) -> int:
        """Embed one window of pending chunks; returns how many were looked at."""
        started = self._now()
        resting = [id for id, failure in self._failures.items() if failure.retry_at > started]
        window = await self._store.pending(WINDOW, resting)
        done = await self._embed(window) if window else 0
        self._metrics.embedded.inc(done)
        await self._report(done, self._now() - started)
        return len(window)

    async def _embed(self, window: list[tuple[str, Payload]]) -> int:
        loop = asyncio.get_running_loop()
        tasks = [loop.run_in_executor(self._threads, self._embed_one, payload) for _, payload in window]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        ids: list[str] = []
        vectors: list[Floats] = []
        for (id, payload), result in zip(window, results, strict=True):
            if isinstance(result, BaseException):
                self._failed(id, payload, result)
            else:
                ids.append(id)
                vectors.append(result)
                self._failures.pop(id, None)
        return await self._store.set_dense(ids, np.stack(vectors)) if ids else 0

    def _embed_one(self, payload: Payload) -> Floats:
        with self._metrics.embedding_seconds.time():
            vector = self._embedder.embed(self._view(payload.title, payload.heading, payload.text))
        if not np.isfinite(vector).all():
            raise ValueError("the embedder returned numbers that are not finite")
        return vector

    def _failed(self, id: str, payload: Payload, error: BaseException) -> None:
        times = self._failures[id].times + 1 if id in self._failures else 1
        pause = min(_FIRST_PAUSE_S * 2 ** (times - 1), _LONGEST_PAUSE_S)
        self._failures[id] = _Failure(times, self._now() + pause)
        self._metrics.embedding_failures.inc()
        log.warning(
            "a chunk could not be embedded; it stays findable by BM25 and is tried again",
            extra={
                "document_id": payload.document_id,
                "chunk": id,
                "times": times,
                "retry_s": pause,
                "error": repr(error),
            },
        )

    async def _report(self, done: int, seconds: float) -> None:
        counts = await self._store.counts(None)
        before = self.progress.per_s
        speed = done / seconds if done and seconds > 0 else before
        per_s = 0.0 if not counts.pending else 0.7 * before + 0.3 * speed if before else speed
        self.progress = Progress(counts, per_s)
        if self.in_use:
            self._metrics.index(counts)
        if done and (self._now() - self._logged_at >= _PROGRESS_EVERY_S or counts.pending == 0):
            self._logged_at = self._now()
            log.info(
                "embedding" if counts.pending else "every chunk is embedded",
                extra={
                    "embedded": counts.embedded,
                    "chunks": counts.chunks,
                    "per_s": round(self.progress.per_s, 1),
                    "eta_s": round(self.progress.eta_s or 0),
                },
            )


def _lower_priority() -> None:
    """On Linux a thread has its own niceness: searches go first."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
