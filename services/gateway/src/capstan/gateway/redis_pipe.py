"""A Redis client for the request path: one connection, many callers, callbacks instead of awaits.

What the callers of one turn of the event loop send goes out in one write; replies come back in order
(RESP2, parsed by hiredis). A connection that is lost, or that leaves a command unanswered for too long, is
dropped with everything in flight, and another is made in the background.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import hiredis

from capstan.gateway.config import ConfigError

Command = tuple[str | bytes | int | float, ...]
Done = Callable[[Any], None]
"""Gets the reply, a `hiredis.ReplyError`, or `ConnectionLost`."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class ConnectionLost(Exception):
    """The connection ended before the reply; whether Redis ran the command is not known."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and who we are there."""

    host: str
    port: int
    tls: bool
    database: int
    credentials: tuple[str, ...]

    @staticmethod
    def parse(url: str) -> "Address":
        """Read `redis[s]://[[user]:password@]host[:port][/database]`. Raises `ConfigError`, without the password."""
        try:
            parts = urlsplit(url)
            port = parts.port or 6379
            database = int(parts.path.strip("/") or 0)
        except ValueError:
            raise ConfigError("the Redis URL needs numbers for its port and database: redis://host:6379/0") from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ConfigError("the Redis URL must look like redis://[:password@]host:port/database (rediss for TLS)")
        credentials = tuple(unquote(part) for part in (parts.username, parts.password) if part)
        return Address(parts.hostname, port, parts.scheme == "rediss", database, credentials)


class Connection(asyncio.Protocol):
    """One connection. `timeout_s` is the longest that any command may go unanswered."""

    def __init__(self, timeout_s: float, lost: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._lost = lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[Done] = deque()
        self._batches: deque[tuple[int, float]] = deque()
        """Number of the last command of each write and the time of the write."""
        self._sent = 0
        self._answered = 0
        self._watch: asyncio.TimerHandle | None = None
        self.closed = self._loop.create_future()

    def send(self, command: Command, done: Done) -> None:
        """Send a command, with the others of this turn of the event loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(hiredis.pack_command(cast(Any, command)))  # its type says tuples of one
        self._waiting.append(done)

    async def call(self, *command: str | bytes | int) -> Any:
        """Send a command and wait. Raises `hiredis.ReplyError` and `ConnectionLost`."""
        future = self._loop.create_future()
        self.send(command, lambda reply: None if future.done() else future.set_result(reply))
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def drop(self, reason: str) -> None:
        """End the connection; every command that waits learns that it is lost."""
        if self.closed.done():
            return
        self.closed.set_result(None)
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._lost(reason)
        error = ConnectionLost(reason)
        while self._waiting:
            self._waiting.popleft()(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's."""
        self.drop(str(exc) if exc else "Redis closed the connection")

    def data_received(self, data: bytes) -> None:
        """Asyncio's: hand each reply to the one who waits for it."""
        if self.closed.done():
            return
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                self._answered += 1
                waiting.popleft()(reply)
        except (hiredis.ProtocolError, IndexError) as error:  # not Redis, or an answer that nobody asked for
            self.drop(f"broken reply: {error}")
        while self._batches and self._batches[0][0] <= self._answered:
            self._batches.popleft()

    def _flush(self) -> None:
        if self.closed.done() or self._transport is None:
            return
        self._sent += len(self._unsent)
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._batches.append((self._sent, self._loop.time()))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._check)

    def _check(self) -> None:
        """One timer for all commands: it looks at the oldest, and sleeps until that would be late."""
        self._watch = None
        if not self._batches:
            return
        late = self._batches[0][1] + self._timeout_s
        if self._loop.time() >= late:
            self.drop(f"no reply within {self._timeout_s:g} s")
        else:
            self._watch = self._loop.call_at(late, self._check)


class RedisPipe:
    """A connection that comes back. `hello` are the commands that each new one starts with and that must succeed.

    `ready` is called when a new connection can be used, `lost` with the reason when it cannot any more, or
    when the first attempt fails: they alternate.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        hello: Sequence[Command],
        ready: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self._address = Address.parse(url)
        self._timeout_s = timeout_s
        self._hello = hello
        self._on_ready = ready
        self._on_lost = lost
        self._connection: Connection | None = None
        self._previous: tuple[bytes, bytes] | None = None
        self._told_lost = False
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether commands can be sent."""
        return self._connection is not None

    def send(self, command: Command, done: Done) -> None:
        """Send a command; only while `ready`."""
        assert self._connection is not None
        self._connection.send(command, done)

    def drop(self, reason: str) -> None:
        """Give up the connection, for a new one."""
        if self._connection is not None:
            self._connection.drop(reason)

    async def start(self) -> None:
        """Connect, or find out that it cannot be done now and go on trying in the background."""
        await self._try()
        self._task = asyncio.create_task(self._keep(), name="redis-pipe")

    async def close(self) -> None:
        """Close the connection and stop trying. Nobody is told."""
        self._told_lost = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.drop("closed")

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            if self._connection is not None:
                await asyncio.shield(self._connection.closed)
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            await self._try()

    async def _try(self) -> None:
        """One attempt to connect."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(max(1.0, self._timeout_s)):
                connection = await self._connect()
                await self._greet(connection)
        except (OSError, TimeoutError, hiredis.ReplyError, ConnectionLost) as error:
            if connection is not None:
                connection.drop("greeting failed")
            self._tell_lost(str(error) or "no connection in time")
            return
        if connection.closed.done():
            return
        self._connection = connection
        self._told_lost = False
        self._on_ready()

    async def _connect(self) -> Connection:
        context = ssl.create_default_context() if self._address.tls else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._timeout_s, self._lost), self._address.host, self._address.port, ssl=context
        )
        return connection

    async def _greet(self, connection: Connection) -> None:
        if self._address.credentials:
            await connection.call("AUTH", *self._address.credentials)
        if self._address.database:
            await connection.call("SELECT", self._address.database)
        with suppress(hiredis.ReplyError):  # before Redis 6.2, or not allowed
            await self._fence(connection)
        for command in self._hello:
            await connection.call(*command)  # type: ignore[arg-type]

    async def _fence(self, connection: Connection) -> None:
        """Have Redis end our previous connection, so that nothing sent on it can run after what we send now.

        Named by id and address: after a restart of Redis the id alone may be someone else's.
        """
        if self._previous:
            await connection.call("CLIENT", "KILL", "ID", self._previous[0], "ADDR", self._previous[1])
        info = dict(field.partition(b"=")[::2] for field in (await connection.call("CLIENT", "INFO")).split())
        self._previous = info[b"id"], info[b"addr"]

    def _lost(self, reason: str) -> None:
        if self._connection is not None:  # else it was still being greeted, and `_try` says so
            self._connection = None
            self._tell_lost(reason)

    def _tell_lost(self, reason: str) -> None:
        if not self._told_lost:
            self._told_lost = True
            self._on_lost(reason)
