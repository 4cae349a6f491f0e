"""An upstream whose behaviour a test chooses."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson


class FakeUpstream:
    """An upstream whose behaviour a test writes as a coroutine; it notes requests and disconnects."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.disconnected = asyncio.Event()
        self.reached = asyncio.Event()
        self.behave: Callable[[Any, Any], Awaitable[None]] = self.answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["path"] == "/health":
            await reply(send, 200, b"ok")
            return
        if scope["path"] == "/metrics":
            await reply(send, 404, b"")
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.requests.append({"headers": headers, "body": orjson.loads(body), "path": scope["path"]})
        self.reached.set()
        await self.behave(receive, send)

    async def answer(self, receive: Any, send: Any) -> None:
        """A whole completion of 5 + 7 tokens."""
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        await reply(send, 200, orjson.dumps({"choices": [{"message": {"content": "hi"}}], "usage": usage}))

    async def stream(self, receive: Any, send: Any) -> None:
        """Two deltas, usage, `[DONE]`."""
        await start_stream(send)
        for piece in (delta("a"), delta("b"), usage_event(5, 2), b"data: [DONE]\n\n"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def hang(self, receive: Any, send: Any) -> None:
        """Never answer; note when the client goes away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()

    async def stream_then_hang(self, receive: Any, send: Any) -> None:
        """One delta, then nothing."""
        await start_stream(send)
        await send({"type": "http.response.body", "body": delta("a"), "more_body": True})
        await self.hang(receive, send)


async def reply(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def start_stream(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})


def delta(text: str) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) + b"\n\n"


def usage_event(prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n"
