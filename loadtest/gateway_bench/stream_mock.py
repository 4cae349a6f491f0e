"""A mock upstream of streams: 64 chunks, one every 20 ms, each with the time it was written.

    python -m loadtest.gateway_bench.stream_mock PORT

The streams are spread over 20 cohorts, one for each millisecond of the interval, and one timer drives them all.
"""

import asyncio
import gc
import json
import sys
from typing import cast

import httptools
import uvloop

from loadtest.gateway_bench.payloads import (
    CHUNKS,
    COMPLETION,
    INTERVAL_S,
    METRICS,
    StampedChunk,
    http_chunk,
    usage_event,
)

COHORTS = 20

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_WHOLE = "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n{}"
_COMPLETION = _WHOLE.format("application/json", len(COMPLETION), COMPLETION).encode()
_METRICS = _WHOLE.format("text/plain", len(METRICS), METRICS).encode()
_CHUNK = StampedChunk()
_LAST_CHUNK = StampedChunk("stop")
_DONE = http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_USAGE_AND_DONE = http_chunk(usage_event()) + _DONE


class Stream:
    """The answer to one streaming request."""

    def __init__(self, transport: asyncio.Transport, end: bytes) -> None:
        self._transport = transport
        self._left = CHUNKS
        self._end = end

    def write_next(self) -> bool:
        """Write the next chunk; whether there are more to come."""
        if self._transport.is_closing():
            return False
        self._left -= 1
        if self._left:
            self._transport.write(_CHUNK.now())
            return True
        self._transport.write(_LAST_CHUNK.now() + self._end)
        return False


class Wheel:
    """Calls each stream once every interval. A new stream gets its first chunk with the next millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cohorts: list[list[Stream]] = [[] for _ in range(COHORTS)]
        self._next = 0
        self._due = loop.time()

    def add(self, stream: Stream) -> None:
        """Let the stream begin."""
        self._cohorts[self._next].append(stream)

    def turn(self) -> None:
        """Serve the cohort whose millisecond it is. Late turns are made up for, so that the pace holds."""
        cohort = self._cohorts[self._next]
        if cohort:
            self._cohorts[self._next] = [stream for stream in cohort if stream.write_next()]
        self._next = (self._next + 1) % COHORTS
        self._due += INTERVAL_S / COHORTS
        self._loop.call_at(self._due, self.turn)


class Connection(asyncio.Protocol):
    """One client. A POST with `"stream": true` gets a stream, everything else an answer at once."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._parser = httptools.HttpRequestParser(self)
        self._path = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client came."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of a request."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._path = self._body = b""

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of its path."""
        self._path += url

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of its body."""
        self._body += body

    def on_message_complete(self) -> None:
        """httptools: it is complete."""
        asked = json.loads(self._body) if self._body else {}
        if not asked.get("stream"):
            self._transport.write(_METRICS if self._path == b"/metrics" else _COMPLETION)
            return
        wants_usage = (asked.get("stream_options") or {}).get("include_usage")
        self._transport.write(_STREAM_HEAD)
        self._wheel.add(Stream(self._transport, _USAGE_AND_DONE if wants_usage else _DONE))


async def serve(port: int) -> None:
    """Serve on loopback until told to stop."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    server = await loop.create_server(lambda: Connection(wheel), "127.0.0.1", port, backlog=4096)
    wheel.turn()
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here is cyclic but connections, and those are few
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
