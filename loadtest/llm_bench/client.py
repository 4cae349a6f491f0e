"""Streamed chat completions over HTTP/1.1, each token's time noted. Open loop and closed loop.

Raw asyncio protocols: on a machine whose cores the server needs, a heavy client would measure itself. In an open loop
a request leaves when its time has come, whatever became of those before it, and its times count from then on
(no "coordinated omission").
"""

import asyncio
import gc
import json
import ssl
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools
import orjson

from loadtest.llm_bench.workload import Request

TIMEOUT_S = 900.0
"""Longest answer; the last in line of a server that takes one request at a time waits long."""


@dataclass(frozen=True)
class Target:
    """A server with OpenAI's API: base URL (with or without `/v1`), the model's name there, an API key or none."""

    url: str
    model: str
    key: str = ""
    to_the_end: bool = True
    """Whether to ask for exactly so many tokens (`ignore_eos`, which vLLM has and OpenAI does not)."""


@dataclass(slots=True, eq=False)
class Sample:
    """One request. Times are seconds after the load's start."""

    due: float
    asked_tokens: int
    leaves_after: int = 0
    """Tokens after which the client goes away; 0: it stays."""
    sent: float = 0.0
    token_times: list[float] = field(default_factory=list)
    """When each event with text came; an event may hold more than one token."""
    ended: float = 0.0
    status: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    outcome: str = ""
    """`completed`, `left`, or what went wrong."""


class Client:
    """Sends requests to one server."""

    def __init__(self, target: Target, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(target.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{target.url!r} is no URL of a server: give http://host:port")
        self.target = target
        self.idle: list[_Connection] = []
        self.connections: set[_Connection] = set()
        self._timeout_s = timeout_s
        self._address = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        path = parts.path.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        authorization = f"authorization: Bearer {target.key}\r\n" if target.key else ""
        self._head = (
            f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"accept: text/event-stream\r\n{authorization}content-length: "
        ).encode()
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds after the load's start."""
        return time.monotonic() - self._began

    async def open_loop(
        self, requests: Sequence[Request], times: Sequence[float], leaving: Iterable[int] = ()
    ) -> list[Sample]:
        """Send each request at its time. `leaving`: numbers of requests whose clients leave after half of it."""
        leaves = set(leaving)

        async def one(number: int, request: Request, at: float) -> Sample:
            await asyncio.sleep(at - self.now())
            after = max(1, request.output_tokens // 2) if number in leaves else 0
            return await self._ask(request, at, after)

        return await self._all([one(n, r, at) for n, (r, at) in enumerate(zip(requests, times, strict=True))])

    async def closed_loop(self, requests: Sequence[Request], concurrency: int) -> list[Sample]:
        """Keep `concurrency` requests running until all have been sent."""
        queue = iter(requests)

        async def user() -> list[Sample]:
            return [await self._ask(request, self.now()) for request in queue]

        return [sample for own in await self._all([user() for _ in range(concurrency)]) for sample in own]

    async def _all(self, work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        gc.disable()  # its pauses would be the server's latency
        self._began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in work]
        finally:
            gc.enable()
        return [task.result() for task in tasks]

    async def _ask(self, request: Request, due: float, leaves_after: int = 0) -> Sample:
        sample = Sample(due, request.output_tokens, leaves_after)
        body = orjson.dumps(request.body(self.target.model, to_the_end=self.target.to_the_end))
        message = self._head + b"%d\r\n\r\n" % len(body) + body
        try:
            async with asyncio.timeout(self._timeout_s):
                for connection in (self.idle.pop() if self.idle else None, None):
                    if connection is None:
                        connection = await self._connect()
                    sample.sent = self.now()
                    if await connection.ask(message, sample):
                        break  # else the server had closed an idle connection, as it may: ask once more
        except TimeoutError:
            sample.outcome = "timed out"
        except OSError:
            sample.outcome = "unreachable"
        sample.ended = sample.ended or self.now()
        return sample

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), *self._address, ssl=self._tls)
        return connection


class _Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._used = False

    async def ask(self, message: bytes, sample: Sample) -> bool:
        """Send, and read to the end. False if the connection turned out to be closed before anything came."""
        self._sample, self._buffer, self._saw_done, self._error = sample, b"", False, ""
        self._parser = httptools.HttpResponseParser(self)
        self._over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        try:
            return await self._over
        finally:
            if not self._over.done() or self._over.cancelled():
                self.drop()

    def drop(self) -> None:
        """Close, whatever is under way."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # it is a TCP one
        self._transport = transport
        self._client.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.drop()

    def on_headers_complete(self) -> None:
        self._sample.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        now = self._client.now()
        if self._sample.status != 200:
            self._buffer += body
            return
        *lines, self._buffer = (self._buffer + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), now)

    def _event(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self._saw_done = True
            return
        event = orjson.loads(data)
        if "error" in event:
            self._error = _code(event)
        if usage := event.get("usage"):
            self._sample.prompt_tokens = usage.get("prompt_tokens") or 0
            self._sample.output_tokens = usage.get("completion_tokens") or 0
        choices = event.get("choices")
        if choices and (choices[0]["delta"].get("content") or choices[0]["delta"].get("reasoning_content")):
            self._sample.token_times.append(now)
            if len(self._sample.token_times) == self._sample.leaves_after:
                self._finish("left")
                self.drop()

    def on_message_complete(self) -> None:
        self._used = True
        self._finish(self._outcome())
        if self._parser.should_keep_alive():
            self._client.idle.append(self)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._client.connections.discard(self)
        if self in self._client.idle:
            self._client.idle.remove(self)
        if hasattr(self, "_over") and not self._over.done():
            if self._used and not self._sample.status:
                self._over.set_result(False)
            else:
                self._finish("broke off" if self._sample.status else "unreachable")

    def _outcome(self) -> str:
        if self._sample.status != 200:
            with suppress(ValueError, KeyError, TypeError):
                return f"{self._sample.status} {_code(orjson.loads(self._buffer))}".strip()
            return str(self._sample.status)
        if self._error:
            return f"error event: {self._error}"
        return "completed" if self._saw_done else "broke off"

    def _finish(self, outcome: str) -> None:
        if self._over.done():
            return
        self._sample.outcome, self._sample.ended = outcome, self._client.now()
        if not self._sample.output_tokens:  # no usage: about one token an event
            self._sample.output_tokens = len(self._sample.token_times)
        self._over.set_result(True)


def _code(body: dict[str, Any]) -> str:
    """An error's name, as OpenAI's API and those that follow it have it."""
    error = body["error"]
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else json.dumps(error)[:80]


@asynccontextmanager
async def client(target: Target) -> AsyncIterator[Client]:
    """A client whose connections are closed at the end."""
    made = Client(target)
    try:
        yield made
    finally:
        for connection in list(made.connections):
            connection.drop()
        await asyncio.sleep(0)
