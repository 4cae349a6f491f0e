"""A tap on an answer: sees every event of a stream pass and reads usage from it.

Server-sent events: WHATWG HTML, section 9.2. Chat and text completions end with `data: [DONE]`, responses with the
event `response.completed` (or `incomplete`, `failed`), messages with `message_stop`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

_END = b"\n\n"
_LINE_END = re.compile(rb"\r\n|\r(?!\Z)")
"""Other ends of a line than LF; after a CR at the very end LF may still follow."""
_USAGE = b'"usage":'
_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_ERROR = re.compile(rb'^data: ?\{(?:"error": ?\{|"type": ?"error")', re.MULTILINE)
_DELTA = {"openai": b"\ndata:", "responses": b".delta\n", "anthropic": b"block_delta\n"}
"""What each piece of an answer has once."""
_LAST = {
    "responses": re.compile(rb"^event: ?response\.(?:completed|incomplete|failed)$", re.MULTILINE),
    "anthropic": re.compile(rb"^event: ?message_stop$", re.MULTILINE),
}


@dataclass(slots=True)
class Usage:
    """Tokens of one request. `cached` of the prompt's came from a prefix cache."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt + self.completion

    @classmethod
    def from_body(cls, body: Any) -> "Usage | None":
        """Read the `usage` object of a response or a chunk, if it has one."""
        usage = body.get("usage") if type(body) is dict else None
        if type(usage) is not dict:
            return None
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(prompt) is int and type(completion) is int and prompt >= 0 and completion >= 0:  # nearly always
            details = usage.get("prompt_tokens_details")
            return cls(prompt, completion, _whole(details, "cached_tokens") if type(details) is dict else 0)
        return cls.from_object(usage)

    @classmethod
    def from_object(cls, usage: Mapping[str, Any]) -> "Usage":
        """Read a usage object: OpenAI's old and new names, Anthropic's, and a bare total."""
        prompt = _whole(usage, "prompt_tokens", "input_tokens")
        completion = _whole(usage, "completion_tokens", "output_tokens")
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
        cached = _whole(details, "cached_tokens") if isinstance(details, dict) else 0
        if not prompt and not completion:
            prompt = _whole(usage, "total_tokens")
        if "cache_read_input_tokens" in usage:  # Anthropic's input_tokens leave out what the cache had or took
            cached = _whole(usage, "cache_read_input_tokens")
            prompt += cached + _whole(usage, "cache_creation_input_tokens")
        return cls(prompt, completion, cached)


def _whole(source: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = source.get(name)
        if isinstance(value, int | float) and value >= 0:
            return int(value)
    return 0


class StreamTap:
    """Sees every event of a stream pass, in whole events, and remembers usage.

    The gateway asks the upstream for a usage event in every completion stream; the client gets it only if it asked for
    it too (`forward_usage`). Lines end with LF after it, whatever they ended with before.
    """

    __slots__ = ("_dialect", "_forward_usage", "_rest", "done", "events", "failed", "usage")

    def __init__(self, *, forward_usage: bool, dialect: str = "openai") -> None:
        self._forward_usage = forward_usage
        self._dialect = dialect
        self._rest = b""
        self.usage: Usage | None = None
        self.events = 0
        """Events that carried a piece of the answer: about as many as tokens."""
        self.done = False
        self.failed = False
        """The upstream itself put an error into the stream."""

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream in, whole events for the client out."""
        if self._rest:
            data = self._rest + data
        if b"\r" in data:
            data = _LINE_END.sub(b"\n", data)
        if data.endswith(_END):
            self._rest = b""
        else:
            end = data.rfind(_END) + 2
            if end == 1:
                self._rest = data
                return b""
            data, self._rest = data[:end], data[end:]
        self.events += data.count(_DELTA[self._dialect])
        if b'"error"' in data and _ERROR.search(data):
            self.failed = True
        if self._dialect != "openai":
            return self._typed(data)
        if data.startswith(b"data:"):
            self.events += 1
        if b"[DONE]" in data and (ends := _DONE.findall(data)):
            self.done = True
            self.events -= len(ends)
        if _USAGE in data:
            *events, blank = data.split(_END)
            return b"".join([self._seen(event + _END) for event in events]) + blank
        return data

    def end(self) -> bytes:
        """The upstream has ended the stream: its last event, should that have no blank line behind it."""
        return self.feed(_END) if self._rest else b""

    def _seen(self, event: bytes) -> bytes:
        """The event if the client is to get it; notes its usage."""
        if _USAGE not in event:
            return event
        chunk = _data(event)
        usage = Usage.from_body(chunk)
        if usage is None:
            return event
        self.usage = usage
        if chunk.get("choices"):
            return event
        self.events -= 1
        return event if self._forward_usage else b""

    def _typed(self, data: bytes) -> bytes:
        """Events that name their type: all of them pass."""
        if _LAST[self._dialect].search(data):
            self.done = True
        if _USAGE in data:
            for event in data.split(_END):
                if _USAGE in event:
                    self._note(_data(event))
        return data

    def _note(self, event: Any) -> None:
        """Usage of a typed event: of the whole response (OpenAI), or first of the prompt, then of all (Anthropic)."""
        if not isinstance(event, dict):
            return
        holder = event.get("response") or event.get("message") or event
        usage = Usage.from_body(holder)
        if usage is not None:
            known = self.usage or Usage()
            self.usage = Usage(
                usage.prompt or known.prompt, usage.completion or known.completion, usage.cached or known.cached
            )


def _data(event: bytes) -> Any:
    """What an event's data lines say together, None where it is not JSON."""
    lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
    try:
        return orjson.loads(lines[0] if len(lines) == 1 else b"\n".join(lines))
    except orjson.JSONDecodeError:
        return None
