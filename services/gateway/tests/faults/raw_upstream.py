"""An upstream at the level of bytes: it dies where the test wants it to."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


class RawUpstream:
    """Answers probes, and model requests as `behave` says."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.url = ""
        self.requests = 0
        self.reached = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        self._server = await asyncio.start_server(self._serve, host, port)
        self.port = self._server.sockets[0].getsockname()[1]
        return f"http://{host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                await reader.readexactly(length)
                if head.startswith(b"GET"):
                    # a connection that a probe leaves idle could be reused, and its end be taken for a stale one
                    writer.write(_OK + b"connection: close\r\ncontent-length: 0\r\n\r\n")
                    writer.close()
                else:
                    self.requests += 1
                    self.reached.set()
                    await self.behave(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def stop(self) -> None:
        """As if the process had been killed."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()


async def answer(writer: asyncio.StreamWriter) -> None:
    """A completion of 5 + 7 tokens."""
    body = orjson.dumps({"choices": [{"message": {"content": "hi"}}], "usage": _USAGE})
    writer.write(_OK + b"content-length: %d\r\n\r\n" % len(body) + body)


async def die(writer: asyncio.StreamWriter) -> None:
    """Close without a byte."""
    writer.transport.abort()


async def die_in_body(writer: asyncio.StreamWriter) -> None:
    """Half of a body."""
    writer.write(_OK + b'content-length: 100\r\n\r\n{"choices": [')
    writer.close()


async def begin_stream(writer: asyncio.StreamWriter) -> None:
    """One event, and nothing more."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


async def die_in_stream(writer: asyncio.StreamWriter) -> None:
    """One event, then gone."""
    await begin_stream(writer)
    writer.close()


async def unavailable(writer: asyncio.StreamWriter) -> None:
    """503, as a worker that starts or drains."""
    body = b'{"error": {"message": "not now", "code": "starting"}}'
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
