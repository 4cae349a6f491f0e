"""A client that sends the bytes a test gives it."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httptools
import orjson

CHAT = "/v1/chat/completions"


class Answer:
    """One HTTP response, filled in by httptools."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.status = 0
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def code(self) -> str:
        """The error's code."""
        return str(orjson.loads(self.body)["error"]["code"])


class WireClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @staticmethod
    async def connect(url: str) -> "WireClient":
        parts = urlsplit(url)
        return WireClient(*await asyncio.open_connection(parts.hostname, parts.port))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def post(self, body: Any, headers: dict[str, str], path: str = CHAT) -> None:
        """Send a whole request."""
        await self.send(request(body, headers, path))

    async def answer(self) -> Answer:
        """The next whole response; one without a length ends with the connection."""
        answer = Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            data = await self.read()
            if not data:
                break
            parser.feed_data(data)
            answer.status = parser.get_status_code()
        return answer

    async def read(self) -> bytes:
        """What comes next; empty at the end, a reset counts as one."""
        try:
            return await self._reader.read(65_536)
        except ConnectionError:
            return b""

    async def read_until(self, text: bytes) -> bytes:
        """Everything up to this text."""
        return await self._reader.readuntil(text)

    def leave(self) -> None:
        """Close at once."""
        self._writer.transport.abort()


def request(body: Any, headers: dict[str, str], path: str = CHAT, version: str = "1.1") -> bytes:
    """A POST as bytes."""
    content = orjson.dumps(body)
    head = f"POST {path} HTTP/{version}\r\nhost: gateway\r\ncontent-length: {len(content)}\r\n"
    return (head + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode() + content
