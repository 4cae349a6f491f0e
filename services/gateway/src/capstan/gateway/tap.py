"""A tap on a stream: sees every event pass and reads usage from it.

Server-sent events: WHATWG HTML, section 9.2. OpenAI streams end with `data: [DONE]`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_EVENT = re.compile(rb"^data:", re.MULTILINE)
_DATA = b"data:"
_EVENT_END = b"\n\n"
_USAGE = b'"usage":'
_MAYBE_ERROR = b'{"error":'
_ERROR = re.compile(rb'^data: ?\{"error": ?', re.MULTILINE)


@dataclass(slots=True)
class Usage:
    """Tokens of one request."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt + self.completion

    @classmethod
    def from_body(cls, body: Any) -> "Usage | None":
        """Read the `usage` object of a response or a chunk, if it has one."""
        usage = body.get("usage") if isinstance(body, dict) else None
        if not isinstance(usage, dict):
            return None
        return cls(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


class StreamTap:
    """Sees every event of a stream pass, in whole events, and remembers usage.

    The gateway asks the upstream for a usage event in every stream; the client gets it only if it
    asked for it too (`forward_usage`).
    """

    def __init__(self, *, forward_usage: bool) -> None:
        self._forward_usage = forward_usage
        self._rest = b""
        self.usage: Usage | None = None
        self.events = 0
        self.done = False
        self.failed = False
        """The upstream itself put an error into the stream."""

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream in, whole events for the client out."""
        if self._rest:
            data = self._rest + data
        whole, self._rest = self._split(data)
        self.events += len(_EVENT.findall(whole))
        if _DONE.search(whole):
            self.done = True
            self.events -= 1
        if _MAYBE_ERROR in whole and _ERROR.search(whole):
            self.failed = True
        if _USAGE in whole:
            return b"".join(event for event in self._events(whole) if self._keep(event))
        return whole

    @staticmethod
    def _split(data: bytes) -> tuple[bytes, bytes]:
        if data.endswith(_EVENT_END):
            return data, b""
        end = data.rfind(_EVENT_END)
        return (b"", data) if end < 0 else (data[: end + 2], data[end + 2 :])

    @staticmethod
    def _events(whole: bytes) -> Iterator[bytes]:
        for event in whole.split(_EVENT_END):
            if event:
                yield event + _EVENT_END

    def _keep(self, event: bytes) -> bool:
        """Whether the client gets this event; notes its usage."""
        if _USAGE not in event or not event.startswith(_DATA):
            return True
        try:
            chunk = orjson.loads(event[len(_DATA) :])
        except orjson.JSONDecodeError:
            return True
        usage = Usage.from_body(chunk)
        if usage is None:
            return True
        self.usage = usage
        self.events -= not chunk.get("choices")
        return bool(chunk.get("choices")) or self._forward_usage
