"""Closed-loop clients of a streaming endpoint: each begins its next stream when the last one is complete.

    python -m loadtest.gateway_bench.stream_load --url http://127.0.0.1:8000 --streams 400 --seconds 3

Prints one JSON object. The clients come one after the other, spread over one stream's duration, so that they stay out
of step as independent users are; then chunks are counted for `--seconds`; then the running streams may finish.
"""

import argparse
import asyncio
import gc
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from loadtest.gateway_bench.payloads import CHUNKS, INTERVAL_S, PATH, request_body

_RAMP_S = CHUNKS * INTERVAL_S
_SETTLE_S = 0.3
_FINISH_S = 30.0
"""How long the running streams may take after the counted seconds."""
_PAUSE_S = 0.1
"""A client whose stream failed waits before its next one."""
_STAMP = re.compile(rb"@(\d{16})")


class Load:
    """All clients, and what they saw."""

    def __init__(self, url: str, headers: Sequence[str]) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "", parts.port or 80)
        body = request_body(stream=True).encode()
        head = [f"POST {PATH} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json", *headers]
        self.request = "\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body
        self.loop = asyncio.get_running_loop()
        self.open = True
        self.counting = False
        self.begun = 0
        self.running = 0
        self.chunks = 0
        self.delays_ns: list[int] = []
        self.first_ns: list[int] = []
        self.stream_ns: list[int] = []
        self.failures: Counter[str] = Counter()
        self.idle = asyncio.Event()
        self._arriving: set[asyncio.Task[None]] = set()

    def arrive(self) -> None:
        """Let one client come."""
        task = self.loop.create_task(self._connect())
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _connect(self) -> None:
        try:
            await self.loop.create_connection(lambda: Client(self), *self.address)
        except OSError as error:
            self.fail(f"connect: {error.strerror or error}")

    async def finished(self) -> None:
        """Begin no more streams; return when the running ones are complete."""
        self.open = False
        if self.running:
            await self.idle.wait()

    def fail(self, reason: str) -> None:
        """Note a failed stream; its client comes again."""
        self.failures[reason] += 1
        if self.open:
            self.loop.call_later(_PAUSE_S, self.arrive)


class Client(asyncio.Protocol):
    """One client on one connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._now = self._began = 0
        self._chunks = -1  # no stream is running
        self._rest = b""
        self._done = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the answer."""
        self._now = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is closed."""
        if self._chunks >= 0:
            self._end("connection closed mid-stream")
        elif self._load.open and self._done:  # closed between two streams: a server may
            self._load.arrive()

    # httptools

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body, free of the transfer coding."""
        events, _, self._rest = (self._rest + body).rpartition(b"\n\n")
        load = self._load
        for stamp in _STAMP.findall(events):
            if not self._chunks:
                load.first_ns.append(self._now - self._began)
            self._chunks += 1
            load.chunks += 1
            if load.counting:
                load.delays_ns.append(self._now - int(stamp))
        if events.endswith(b"data: [DONE]"):
            self._done = True

    def on_message_complete(self) -> None:
        """httptools: the answer is complete."""
        status = self._parser.get_status_code()
        if status != 200:
            self._end(f"status {status}")
        elif self._chunks != CHUNKS or not self._done:
            self._end("truncated stream")
        else:
            self._end()
        if not self._parser.should_keep_alive():
            self._transport.close()
        elif self._load.open and self._done:
            self._begin()
        else:
            self._transport.close()

    def _begin(self) -> None:
        self._chunks, self._rest, self._done = 0, b"", False
        self._began = time.monotonic_ns()
        self._load.begun += 1
        self._load.running += 1
        self._load.idle.clear()
        self._transport.write(self._load.request)

    def _end(self, failure: str = "") -> None:
        if self._chunks < 0:
            return  # already noted
        self._chunks = -1
        self._load.running -= 1
        if not self._load.running:
            self._load.idle.set()
        if failure:
            self._done = False
            self._load.fail(failure)
        else:
            self._load.stream_ns.append(self._now - self._began)


async def run(url: str, headers: Sequence[str], streams: int, seconds: float) -> dict[str, Any]:
    """Put the load on `url`; what it gave. Chunks are counted over `seconds`, streams over the whole run."""
    load = Load(url, headers)
    for n in range(streams):
        load.loop.call_later(_RAMP_S * n / streams, load.arrive)
    await asyncio.sleep(_RAMP_S + _SETTLE_S)
    load.counting, began = True, time.monotonic()
    await asyncio.sleep(seconds)
    load.counting, lasted = False, time.monotonic() - began
    with suppress(TimeoutError):
        await asyncio.wait_for(load.finished(), _FINISH_S)
    if load.running:
        load.failures["unfinished"] += load.running
    return {
        "streams": streams,
        "chunks_s": round(len(load.delays_ns) / lasted, 1),
        "stream_p50_ms": _ms(load.stream_ns, 0.5),
        "stream_p99_ms": _ms(load.stream_ns, 0.99),
        "ttft_p50_ms": _ms(load.first_ns, 0.5),
        "ttft_p99_ms": _ms(load.first_ns, 0.99),
        "delay_p50_ms": _ms(load.delays_ns, 0.5),
        "delay_p99_ms": _ms(load.delays_ns, 0.99),
        "chunks": load.chunks,
        "begun": load.begun,
        "failed": sum(load.failures.values()),
        "failures": dict(load.failures),
    }


def _ms(values_ns: list[int], quantile: float) -> float | None:
    """A quantile (nearest rank) in milliseconds."""
    if not values_ns:
        return None
    values_ns.sort()
    return round(values_ns[min(len(values_ns) - 1, int(quantile * len(values_ns)))] / 1e6, 3)


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description="Closed-loop clients of a streaming endpoint.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--header", action="append", default=[], help="for example 'authorization: Bearer …'")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    gc.collect()
    gc.freeze()
    gc.disable()  # a pause of the collector would count as the gateway's
    result = uvloop.run(run(arguments.url, arguments.header, arguments.streams, arguments.seconds))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
