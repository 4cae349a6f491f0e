"""The access log: one JSON line a request, as every service logs, written in batches.

The logging module costs about as much as the whole request path; here the caller hands in the fields as JSON, and the
lines of a fraction of a second are one write.
"""

import asyncio
import time
from collections.abc import Callable

_FLUSH_S = 0.25
_FLUSH_BYTES = 64 * 1024


class AccessLog:
    """Buffers lines and writes them; `write` takes bytes, `now` is Unix time."""

    def __init__(self, write: Callable[[bytes], object], now: Callable[[], float] = time.time) -> None:
        self._write = write
        self._now = now
        self._lines: list[bytes] = []
        self._size = 0
        self._second = 0
        self._stamp = b""
        self._scheduled = False

    def add(self, fields: bytes) -> None:
        """Log one request: `fields` are members of a JSON object, without its braces."""
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second)).encode()
        line = b'{"msg":"request","ts":"%b.%03d","level":"info","service":"gateway",%b}\n' % (
            self._stamp,
            (now - second) * 1000,
            fields,
        )
        self._lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH_BYTES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(_FLUSH_S, self._flush_scheduled)

    def flush(self) -> None:
        """Write what is buffered."""
        if self._lines:
            data = b"".join(self._lines)
            self._lines.clear()
            self._size = 0
            self._write(data)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()
