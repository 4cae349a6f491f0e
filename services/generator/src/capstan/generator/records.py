"""What is kept: answers as they were sent, interleavings, and feedback on both, in one SQLite file.

One thread has the one connection, so that statements never meet. A write is on disk (write-ahead log, synchronous)
before it is confirmed. Where the file cannot be used, answers go on without being kept, and everything that would have
to be confirmed is refused.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from prometheus_client import CollectorRegistry, Counter

from capstan.common.errors import ApiError

log = logging.getLogger("capstan.generator.records")

KEPT_DAYS = 400
"""Feedback and interleavings are kept for so long. They hold no question and no answer."""
_DAY = 86_400.0
_PRUNE_EVERY_S = 3600.0
_BUSY_S = 5.0

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE answers (
            tenant TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, arm TEXT NOT NULL, question TEXT NOT NULL,
            body TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
        "CREATE INDEX answers_by_time ON answers (tenant, at, id)",
        """CREATE TABLE interleavings (
            tenant TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL,
            teams TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
        """CREATE TABLE feedback (
            tenant TEXT NOT NULL, target TEXT NOT NULL, kind TEXT NOT NULL, chunk TEXT NOT NULL, at REAL NOT NULL,
            arm TEXT, comment TEXT, PRIMARY KEY (tenant, target, kind, chunk))""",
    ),
)
"""What leads from each version of the schema (`user_version`) to the next. Never change one that was released."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Key = tuple[str, str, str, str]
"""Of a piece of feedback: tenant, target, kind, chunk (empty: the whole)."""


class PairRow(NamedTuple):
    """What is known of the interleavings of two arms. `a` comes before `b` in the alphabet."""

    a: str
    b: str
    impressions: int
    clicks_a: int
    clicks_b: int
    wins_a: int
    wins_b: int
    ties: int
    """Interleavings with clicks, as many on one arm as on the other."""


class ThumbsRow(NamedTuple):
    """Thumbs on an arm's answers."""

    arm: str
    up: int
    down: int


class _Unusable(Exception):
    """The file cannot be used; the message says why."""


class Records:
    """The records of all tenants; every method is of one tenant's. `now` is Unix time in seconds.

    `keep_days`: how long answers are kept, 0: not at all. Methods raise `ApiError` 503 where the file cannot be used.
    """

    def __init__(
        self, directory: Path, *, keep_days: int, registry: CollectorRegistry, now: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._keep_s = keep_days * _DAY
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="records")
        self._connection: sqlite3.Connection | None = None
        self._pruned = float("-inf")
        self._failing = False
        self._failed = Counter(
            "capstan_generator_records_failed_total", "Records not written or read.", ("operation",), registry=registry
        )
        self._feedback = Counter(
            "capstan_generator_feedback_total",
            "Thumbs and clicks; the same again is none.",
            ("kind",),
            registry=registry,
        )

    async def __aenter__(self) -> "Records":
        """Open the file, so that what is wrong with it is in the log from the start; that ends nothing."""
        await asyncio.wrap_future(self._thread.submit(self._quietly, "open", lambda _: None))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what is under way and close."""
        self._thread.submit(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    # answers

    async def keep(self, tenant: str, record: dict[str, Any]) -> None:
        """Keep an answer, if answers are kept. Never raises: whoever asked has the answer either way."""
        if self._keep_s:
            # Shielded: a client that leaves now has had the whole answer.
            await asyncio.shield(asyncio.wrap_future(self._keep(tenant, record)))

    def keep_soon(self, tenant: str, record: dict[str, Any]) -> None:
        """`keep` without waiting, for where nothing may be awaited."""
        if self._keep_s:
            with suppress(RuntimeError):  # closed: a drain has cut this answer off
                self._keep(tenant, record)

    async def answer(self, tenant: str, id: str) -> bytes | None:
        """An answer as JSON."""
        query = "SELECT body FROM answers WHERE tenant = ? AND id = ? AND at > ?"
        row = await self._run("read", lambda db: db.execute(query, (tenant, id, self._oldest())).fetchone())
        return None if row is None else str(row[0]).encode()

    async def answers(
        self, tenant: str, limit: int, before: tuple[float, str] | None
    ) -> tuple[list[dict[str, Any]], tuple[float, str] | None]:
        """Answers from new to old, those before a place in that order, and the place to go on from."""
        place = before or (float("inf"), "")
        query = """SELECT at, id, body FROM answers WHERE tenant = ? AND at > ? AND (at, id) < (?, ?)
            ORDER BY at DESC, id DESC LIMIT ?"""
        values = (tenant, self._oldest(), *place, limit + 1)
        rows = await self._run("read", lambda db: db.execute(query, values).fetchall())
        more = len(rows) > limit
        return [orjson.loads(body) for _, _, body in rows[:limit]], (rows[limit - 1][:2] if more else None)

    async def forget(self, tenant: str, id: str) -> bool:
        """Delete an answer and the feedback on it. False where there is none."""

        def delete(db: sqlite3.Connection) -> bool:
            found = db.execute("DELETE FROM answers WHERE tenant = ? AND id = ?", (tenant, id)).rowcount > 0
            db.execute("DELETE FROM feedback WHERE ? AND tenant = ? AND target = ?", (found, tenant, id))
            return found

        return await self._run("delete", delete)

    # interleavings

    async def add_interleaving(self, tenant: str, id: str, a: str, b: str, teams: dict[str, str | None]) -> None:
        """Keep who drafted what: chunk id to arm, None for what nobody drafted."""
        first, second = sorted((a, b))
        values = (tenant, id, self._now(), first, second, orjson.dumps(teams).decode())
        insert = "INSERT INTO interleavings VALUES (?, ?, ?, ?, ?, ?)"
        await self._run("interleaving", lambda db: db.execute(insert, values))

    # feedback

    async def add_click(self, tenant: str, interleaving: str, chunk: str) -> None:
        """A click on a result, credited to the arm that drafted it. Raises `ApiError` for what was not shown."""

        def add(db: sqlite3.Connection) -> bool:
            query = "SELECT teams FROM interleavings WHERE tenant = ? AND id = ?"
            row = db.execute(query, (tenant, interleaving)).fetchone()
            if row is None:
                raise _missing("interleaving", interleaving)
            teams = orjson.loads(row[0])
            if chunk not in teams:
                raise _not_shown(chunk)
            return self._upsert(db, (tenant, interleaving, "click", chunk), teams[chunk], None)

        self._feedback.labels("click").inc(await self._run("feedback", add))

    async def add_feedback(self, tenant: str, answer: str, kind: str, chunk: str | None, comment: str | None) -> None:
        """Feedback on an answer. A thumb replaces the other one. Raises `ApiError` for what was not shown."""

        def add(db: sqlite3.Connection) -> bool:
            query = "SELECT arm, body FROM answers WHERE tenant = ? AND id = ? AND at > ?"
            row = db.execute(query, (tenant, answer, self._oldest())).fetchone()
            if row is None:
                raise _missing("answer", answer)
            if chunk is not None and chunk not in _chunks(orjson.loads(row[1])):
                raise _not_shown(chunk)
            if kind != "click":
                other = "up" if kind == "down" else "down"
                thumb = "DELETE FROM feedback WHERE tenant = ? AND target = ? AND chunk = ? AND kind = ?"
                db.execute(thumb, (tenant, answer, chunk or "", other))
            return self._upsert(db, (tenant, answer, kind, chunk or ""), row[0], comment)

        self._feedback.labels(kind).inc(await self._run("feedback", add))

    async def pairs(self, tenant: str) -> list[PairRow]:
        """What the tenant's clicks say of each pair of arms."""
        query = """
            SELECT a, b, count(*), sum(on_a), sum(on_b), sum(on_a > on_b), sum(on_b > on_a), sum(on_a = on_b AND on_a)
            FROM (
                SELECT i.a, i.b, count(*) FILTER (WHERE f.arm = i.a) AS on_a,
                    count(*) FILTER (WHERE f.arm = i.b) AS on_b
                FROM interleavings i LEFT JOIN feedback f
                    ON f.tenant = i.tenant AND f.target = i.id AND f.kind = 'click'
                WHERE i.tenant = ? GROUP BY i.id)
            GROUP BY a, b ORDER BY a, b"""
        rows = await self._run("read", lambda db: db.execute(query, (tenant,)).fetchall())
        return [PairRow(*row) for row in rows]

    async def thumbs(self, tenant: str) -> list[ThumbsRow]:
        """The tenant's thumbs on whole answers, by the arm that answered."""
        query = """SELECT arm, sum(kind = 'up'), sum(kind = 'down') FROM feedback
            WHERE tenant = ? AND kind IN ('up', 'down') AND chunk = '' GROUP BY arm ORDER BY arm"""
        rows = await self._run("read", lambda db: db.execute(query, (tenant,)).fetchall())
        return [ThumbsRow(*row) for row in rows]

    # on the event loop

    async def _run(self, operation: str, work: Work[T]) -> T:
        try:
            return await asyncio.wrap_future(self._thread.submit(self._work, operation, work))
        except _Unusable:
            message = "records cannot be read or written at the moment; nothing was recorded, try again later"
            raise ApiError(503, "records_unavailable", message, retry_after=30) from None

    def _keep(self, tenant: str, record: dict[str, Any]) -> Future[None]:
        body = orjson.dumps(record).decode()
        values = (tenant, record["id"], self._now(), record["arm"], record["question"], body)
        insert = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)"
        return self._thread.submit(self._quietly, "answer", lambda db: db.execute(insert, values))

    def _oldest(self) -> float:
        """The time before which answers count as gone, pruned or not."""
        return self._now() - self._keep_s

    def _upsert(self, db: sqlite3.Connection, key: Key, arm: str | None, comment: str | None) -> bool:
        """Whether it was not there before."""
        query = "SELECT 1 FROM feedback WHERE tenant = ? AND target = ? AND kind = ? AND chunk = ?"
        new = db.execute(query, key).fetchone() is None
        statement = """INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
            SET at = excluded.at, comment = coalesce(excluded.comment, comment)"""
        db.execute(statement, (*key, self._now(), arm, comment))
        return new

    # on the records' own thread

    def _quietly(self, operation: str, work: Work[object]) -> None:
        try:
            self._work(operation, work)
        except _Unusable:
            pass  # counted and logged
        except Exception:
            log.exception("a record was not kept")

    def _work(self, operation: str, work: Work[T]) -> T:
        """Run `work` as a transaction. Raises `_Unusable`."""
        try:
            if self._connection is None:
                self._connection = self._open()
            if self._now() - self._pruned > _PRUNE_EVERY_S:
                self._prune(self._connection)
            with self._connection as db:
                result = work(db)
        except (sqlite3.Error, OSError, _Unusable) as error:
            self._failed.labels(operation).inc()
            if not self._failing:
                message = "records in %s cannot be used (%s); see to it, or set CAPSTAN_GENERATOR_DATA_DIR"
                log.error(message, self._directory, error)  # noqa: TRY400 - an operator's matter, no trace needed
            self._failing = True
            raise _Unusable(str(error)) from None
        if self._failing:
            log.info("records in %s can be used again", self._directory)
        self._failing = False
        return result

    def _open(self) -> sqlite3.Connection:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self._directory / "records.sqlite3", timeout=_BUSY_S)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            _migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prune(self, db: sqlite3.Connection) -> None:
        """Delete what is too old. On a full disk that may fail; reading goes on, which leaves out what is too old."""
        self._pruned = self._now()
        oldest = self._pruned - KEPT_DAYS * _DAY
        with suppress(sqlite3.Error), db:
            db.execute("DELETE FROM answers WHERE at <= ?", (self._oldest(),))
            db.execute("DELETE FROM interleavings WHERE at <= ?", (oldest,))
            db.execute("DELETE FROM feedback WHERE at <= ?", (oldest,))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _migrate(db: sqlite3.Connection) -> None:
    """Bring the schema to this version, each step whole or not at all."""
    db.execute("BEGIN IMMEDIATE")  # another process may be about to do the same
    with db:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > len(_MIGRATIONS):
            raise _Unusable(f"written by a newer release: schema {version}, this one knows {len(_MIGRATIONS)}")
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _chunks(record: dict[str, Any]) -> set[str]:
    """The chunks that an answer showed."""
    sources = record["capstan"]["sources"]
    return {source["chunk_id"] for source in sources} | {id for source in sources for id in source.get("chunks", ())}


def _missing(what: str, id: str) -> ApiError:
    return ApiError(404, f"{what}_not_found", f"there is no {what} {id[:100]!r}; it may have been deleted")


def _not_shown(chunk: str) -> ApiError:
    return ApiError(400, "invalid_request", f"the chunk {chunk[:100]!r} was not shown there", param="chunk_id")
