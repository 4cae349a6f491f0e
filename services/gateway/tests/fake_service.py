"""A service behind a mount."""

import asyncio
from typing import Any


class Service:
    """A service that notes its requests and answers with what the test chose."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", b"text/plain")]
        self.pieces = [b"hello"]
        self.received = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.disconnected = asyncio.Event()
        self.breaks = False
        self.silent = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        request = {"method": scope["method"], "path": scope["raw_path"], "query": scope["query_string"]}
        self.requests.append({**request, "headers": headers, "body": b""})
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            self.requests[-1]["body"] += message.get("body", b"")
            self.received = len(self.requests[-1]["body"])
            self.begun.set()
            if not message.get("more_body"):
                break
        if self.silent:
            await self._watch(receive)
            return
        gone = asyncio.create_task(self._watch(receive))
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await self.go_on.wait()
        gone.cancel()
        if not self.breaks:
            await send({"type": "http.response.body", "body": b""})

    async def _watch(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()
        self.go_on.set()
