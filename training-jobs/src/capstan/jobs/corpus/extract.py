"""Extraction of many files, in a few processes."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

from capstan.extract.errors import BrokenDocument
from capstan.extract.formats import extract
from capstan.jobs.corpus.clean import Dropped, verdict
from capstan.jobs.corpus.documents import Document
from capstan.jobs.corpus.items import Item
from capstan.jobs.corpus.recipe import Cleaning

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Outcome:
    """A document, or why there is none."""

    item: Item
    document: Document | None = None
    dropped: Dropped | None = None
    detail: str = ""


def extract_one(item: Item, cleaning: Cleaning, mandoc: Path | None) -> Outcome:
    """Read one file; a file that cannot be read is an outcome and no exception."""
    try:
        page = extract(item.path, item.kind, item.rules, item.name, mandoc)
    except BrokenDocument as error:
        return Outcome(item, dropped=Dropped.BROKEN, detail=str(error))
    except OSError as error:
        return Outcome(item, dropped=Dropped.BROKEN, detail=error.strerror or type(error).__name__)
    except Exception as error:  # a parser's own fault on one file must not cost the user all the others
        return Outcome(item, dropped=Dropped.BROKEN, detail=f"{type(error).__name__} in the {item.kind} parser")
    if reason := verdict(page, cleaning):
        return Outcome(item, dropped=reason, detail="no text" if reason is Dropped.EMPTY else "only links")
    return Outcome(item, Document(item.id, page.title, item.source, item.license, item.url, page.sections))


class Extractor:
    """A few processes that read files; made once, as each needs a second to import the parsers."""

    def __init__(self, processes: int, cleaning: Cleaning, mandoc: Path | None) -> None:
        self._cleaning = cleaning
        self._mandoc = mandoc
        self._pool = _start(processes) if processes > 1 else None

    def __enter__(self) -> "Extractor":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.terminate()
            self._pool.join()

    def run(self, items: list[Item], advance: Callable[[int], None]) -> Iterator[Outcome]:
        """Read all files, in order; `advance` hears how many were just read."""
        batches = [(items[i : i + _BATCH], self._cleaning, self._mandoc) for i in range(0, len(items), _BATCH)]
        for outcomes in self._pool.imap(_extract_batch, batches) if self._pool else map(_extract_batch, batches):
            yield from outcomes
            advance(len(outcomes))


def _start(processes: int) -> Pool:
    """Processes that leave Ctrl-C, which reaches all that share a terminal, to this one.

    "spawn" is the one way of starting them that is the same everywhere and safe beside threads.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # they inherit it, from their very first import on
    try:
        return multiprocessing.get_context("spawn").Pool(processes)
    finally:
        signal.signal(signal.SIGINT, before)


def _extract_batch(batch: tuple[list[Item], Cleaning, Path | None]) -> list[Outcome]:
    items, cleaning, mandoc = batch
    return [extract_one(item, cleaning, mandoc) for item in items]
