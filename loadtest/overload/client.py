"""An open-loop load generator for streamed completions: each request leaves when its time has come, whatever happened
to those before it, and is measured from that time on, so that a stalled server cannot slow its own test down
("coordinated omission").

Raw HTTP/1.1 on asyncio protocols: no task, no timer and no parsing of JSON for a stream's chunk, so that thousands of
open streams take a small part of one core.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools
import orjson

_TAIL = 512  # bytes of an answer that are kept: a stream's end, or an error's body
_DONE = b"data: [DONE]"
_START_IN_S = 0.2


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request to be sent."""

    at: float
    """Seconds after the start of the load."""
    tenant: str
    body: bytes
    """A streamed completion request, JSON."""


@dataclass(slots=True, eq=False)
class Call:
    """A request that was sent, and how it went. Times are seconds after the load's start."""

    arrival: Arrival
    target: "Target"
    sent: float = 0.0
    status: int = 0
    """HTTP status; 0 while there is none."""
    first: float | None = None
    """When the first event of the stream came."""
    ended: float = 0.0
    """When it was over, or cut off."""
    whole: bool = False
    """Whether the HTTP response came to its end."""
    outcome: str = "unfinished"
    tail: bytes = b""
    tries: int = 0

    @property
    def ttft(self) -> float:
        """Seconds from the scheduled arrival to the first event; where none came, at least this long."""
        return (self.ended if self.first is None else self.first) - self.arrival.at

    @property
    def duration(self) -> float:
        """Seconds from the scheduled arrival to the answer's end."""
        return self.ended - self.arrival.at


@dataclass(eq=False)
class Target:
    """A server, the API key of each tenant there, and its connections that are free."""

    url: str
    keys: Mapping[str, str] = field(default_factory=dict)
    idle: "list[_Connection]" = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    def request(self, arrival: Arrival) -> bytes:
        """The request's bytes."""
        key = self.keys.get(arrival.tenant)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self.address[0]}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(arrival.body)}\r\n"
        head += f"authorization: Bearer {key}\r\n\r\n" if key else "\r\n"
        return head.encode() + arrival.body


async def offer(arrivals: Sequence[Arrival], targets: Sequence[Target], *, grace_s: float) -> list[Call]:
    """Send `arrivals` to `targets` in turn. `grace_s` seconds after the last one, what has not ended is cut off."""
    load = _Load()
    calls = [Call(arrival, targets[number % len(targets)]) for number, arrival in enumerate(arrivals)]
    loop = asyncio.get_running_loop()
    load.start = time.monotonic() + _START_IN_S
    timers = [loop.call_later(load.start + call.arrival.at - time.monotonic(), load.send, call) for call in calls]
    try:
        await load.all_ended(len(calls), _START_IN_S + arrivals[-1].at + grace_s)
    finally:
        for timer in timers:
            timer.cancel()
        for call in calls:
            call.ended = call.ended or load.now()
        load.close()
        for target in targets:
            target.idle.clear()
    await asyncio.sleep(0)
    return calls


class _Load:
    """The calls under way."""

    def __init__(self) -> None:
        self.start = 0.0
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._ended = 0
        self._expected = -1
        self._done = asyncio.Event()

    def now(self) -> float:
        """Seconds after the load's start."""
        return time.monotonic() - self.start

    def send(self, call: Call) -> None:
        """Send a call on a free connection, else on a new one."""
        call.tries += 1
        call.sent = call.sent or self.now()
        if call.target.idle:
            call.target.idle.pop().begin(call)
            return
        opening = asyncio.create_task(self._open(call))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def all_ended(self, number: int, timeout_s: float) -> None:
        """Return when `number` calls have ended, or at the latest after `timeout_s`."""
        self._expected = number
        try:
            async with asyncio.timeout(timeout_s):
                await self._done.wait()
        except TimeoutError:
            pass

    def ended(self, call: Call) -> None:
        """Count a call that has its outcome."""
        call.ended = self.now()
        self._ended += 1
        if self._ended == self._expected:
            self._done.set()

    def opened(self, connection: "_Connection") -> None:
        """Remember a connection, to close it in the end."""
        self._connections.add(connection)

    def closed(self, connection: "_Connection") -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Drop everything that is under way."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._connections):
            connection.drop()

    async def _open(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self, call.target), *call.target.address)
        except OSError:
            call.outcome = "unreachable"
            self.ended(call)
            return
        connection.begin(call)


class _Connection(asyncio.Protocol):
    """A keep-alive connection with at most one call at a time."""

    def __init__(self, load: _Load, target: Target) -> None:
        self._load = load
        self._target = target
        self._call: Call | None = None
        self._reused = False
        self._parser = httptools.HttpResponseParser(self)

    def begin(self, call: Call) -> None:
        """Send a call."""
        self._call = call
        self._transport.write(self._target.request(call.arrival))

    def drop(self) -> None:
        """Close, whatever is under way."""
        self._call = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # it is a TCP one
        self._transport = transport
        self._load.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_headers_complete(self) -> None:
        if self._call is not None:
            self._call.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        call = self._call
        if call is None:
            return
        if call.first is None and call.status == 200 and b"data:" in body:
            call.first = self._load.now()
        call.tail = (call.tail + body)[-_TAIL:]

    def on_message_complete(self) -> None:
        call, self._call = self._call, None
        self._reused = True
        if call is None:
            return
        call.whole = True
        self._finish(call)
        if self._parser.should_keep_alive():
            self._target.idle.append(self)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.closed(self)
        if self in self._target.idle:
            self._target.idle.remove(self)
        call, self._call = self._call, None
        if call is None:
            return
        if self._reused and not call.status and call.tries == 1:
            self._load.send(call)  # the server had closed the idle connection, as it may: any client asks again
        else:
            self._finish(call)

    def _finish(self, call: Call) -> None:
        call.outcome = _outcome(call)
        self._load.ended(call)


def _outcome(call: Call) -> str:
    """How a call that is over went: `completed`, `broken` (a stream without its end), or what refused it."""
    if not call.status:
        return "unreachable"
    if call.status == 200:
        return "completed" if call.whole and call.tail.rstrip().endswith(_DONE) else "broken"
    try:
        code = orjson.loads(call.tail)["error"]["code"]
    except (ValueError, KeyError, TypeError):  # a peer's error, in words of its own
        code = ""
    return f"{call.status} {code}".rstrip() if code != call.status else str(call.status)
