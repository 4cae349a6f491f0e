"""A streamed completion as Locust's user has it, its tokens timed."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from geventhttpclient.response import HTTPProtocolViolationError
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpUser

_END = b"[DONE]"
_BROKEN = (*FAILURE_EXCEPTIONS, HTTPProtocolViolationError)


@dataclass
class Timing:
    """Of one stream, in seconds since the request was sent."""

    times: list[float] = field(default_factory=list)
    """When each event with text came."""
    tokens: int = 0
    """By the server's count; without one, events."""
    seconds: float = 0.0
    size: int = 0
    error: str = ""
    complete: bool = False

    def figures(self) -> Iterator[tuple[str, float]]:
        """TTFT, TPOT and each ITL in milliseconds, and tokens a second."""
        if not self.times:
            return
        tokens = self.tokens or len(self.times)
        yield "TTFT", self.times[0] * 1e3
        for earlier, later in pairwise(self.times):
            yield "ITL", (later - earlier) * 1e3
        if tokens > 1:
            yield "TPOT", (self.times[-1] - self.times[0]) / (tokens - 1) * 1e3
        yield "tok/s", tokens / self.seconds


def stream(
    user: FastHttpUser, path: str, body: dict[str, Any], headers: dict[str, str], *, name: str, leave_after: int = 0
) -> None:
    """Send `body` with `stream`, and report the request, and beside it what its tokens' times say.

    Locust has one table, so these are rows of their own, by type: TTFT, TPOT, ITL in milliseconds, tok/s in tokens a
    second. `leave_after`: go away after so many events with text, as an impatient user does.
    """
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    began = time.perf_counter()
    with user.client.post(path, json=body, headers=headers, name=name, stream=True, catch_response=True) as response:
        if response.status_code != 200:
            response.failure(_refusal(response.status_code, response.content))
            return
        timing = read(response._response, began, leave_after)
        response.request_meta["response_time"] = timing.seconds * 1e3
        response.request_meta["response_length"] = timing.size
        left = 0 < leave_after <= len(timing.times)
        if left:
            response._response.release()  # closes the connection: the answer is not at its end
        if timing.error or not (timing.complete or left):
            response.failure(timing.error or "the stream broke off")
            return
        response.success()
    for kind, value in timing.figures():
        user.environment.events.request.fire(
            request_type=kind, name=name, response_time=value, response_length=0, exception=None, context=user.context()
        )


def read(response: Any, began: float, leave_after: int = 0) -> Timing:
    """Read events to the end, or until as many with text have come."""
    timing = Timing()
    try:
        while line := response.readline(b"\n"):
            timing.size += len(line)
            data = bytes(line[5:]).strip() if line.startswith(b"data:") else b""
            if data == _END:
                timing.complete = True
            elif data:
                _note(timing, json.loads(data), time.perf_counter() - began)
                if len(timing.times) == leave_after > 0:
                    break
    except _BROKEN as error:
        timing.error = f"the stream broke off: {type(error).__name__}"
    timing.seconds = time.perf_counter() - began
    return timing


def _note(timing: Timing, event: dict[str, Any], now: float) -> None:
    if "error" in event:
        timing.error = f"error event: {_code(event)}"
    if usage := event.get("usage"):
        timing.tokens = usage.get("completion_tokens") or 0
    choices = event.get("choices")
    if choices and choices[0].get("delta", {}).get("content"):
        timing.times.append(now)


def _refusal(status: int, body: bytes | None) -> str:
    try:
        return f"{status} {_code(json.loads(body or b''))}" if status else "no answer"
    except (ValueError, KeyError, TypeError):
        return str(status)


def _code(body: dict[str, Any]) -> str:
    error = body["error"]
    return str(error.get("code") or error.get("type")) if isinstance(error, dict) else str(error)
