"""What the mock upstreams answer and what the load generators ask."""

import json
import time

MODEL = "m"
PATH = "/v1/chat/completions"
CHUNKS = 64
"""Content chunks of a stream."""
INTERVAL_S = 0.02
"""Seconds between the chunks of a stream: 50 tokens a second, the pace of a well loaded GPU."""

USAGE = {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22}
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1767225600,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there, how are you?"},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    },
    separators=(",", ":"),
)
"""A chat completion of 280 bytes."""

METRICS = "".join(
    f'vllm:{name}{{engine="0",model_name="{MODEL}"}} 0\n'
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
)
"""What an idle vLLM says of itself to those who ask."""

_STAMP = "@" + "0" * 16  # replaced by the time of writing; of fixed width, so that all chunks have one length


def request_body(*, stream: bool) -> str:
    """A chat completion request of about 180 bytes."""
    question = "Hello, please tell me a short story about a fox and a crow, would you?"
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "max_tokens": CHUNKS}
    return json.dumps({**body, "stream": True} if stream else body, separators=(",", ":"))


def event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """One server-sent event with a chat completion chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _event({"choices": [choice]})


def usage_event() -> bytes:
    """The event that carries the usage, for those who asked."""
    usage = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": 12 + CHUNKS}
    return _event({"choices": [], "usage": usage})


def _event(fields: dict[str, object]) -> bytes:
    head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1767225600, "model": MODEL}
    return b"data: " + json.dumps({**head, **fields}, separators=(",", ":")).encode() + b"\n\n"


def http_chunk(data: bytes) -> bytes:
    """`data` as a chunk of HTTP/1.1's chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class StampedChunk:
    """An event in its HTTP chunk whose content is the time of writing: `@` and nanoseconds of the monotonic clock."""

    def __init__(self, finish_reason: str | None = None) -> None:
        whole = http_chunk(event({"content": _STAMP}, finish_reason))
        self._head, self._tail = whole.split(_STAMP.encode())

    def now(self) -> bytes:
        """The bytes, stamped with this moment. The clock is the machine's: another process may compare."""
        return b"%s@%016d%s" % (self._head, time.monotonic_ns(), self._tail)
