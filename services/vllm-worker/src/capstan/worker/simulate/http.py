"""The few parts of HTTP that the simulator needs, straight on ASGI so that hundreds of streams cost little."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"


class Disconnected(Exception):
    """The client left."""


class Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str:
        """A request header, empty when absent."""
        return self.headers.get(name, b"").decode("latin-1")

    async def body(self) -> bytes:
        """The request body. Raises `Disconnected`."""
        parts = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    def when_gone(self, call: Callable[[], None]) -> "asyncio.Task[None]":
        """Call `call` once the client disconnects. To be used after the body is read; cancel the task at the end."""

        async def watch() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            call()

        return asyncio.create_task(watch())

    async def start(self, status: int, content_type: str, *headers: tuple[bytes, bytes]) -> None:
        """Send status and headers."""
        fields = [(b"content-type", content_type.encode()), *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def respond(self, status: int, data: bytes = b"", content_type: str = JSON) -> None:
        """Send a whole response."""
        await self.start(status, content_type, (b"content-length", str(len(data)).encode()))
        await self.write(data, more=False)

    async def json(self, value: Any, status: int = 200) -> None:
        """Send a whole JSON response."""
        await self.respond(status, orjson.dumps(value))
