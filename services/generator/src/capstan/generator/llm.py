"""The language model, called through the gateway in the end user's name."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson


class LlmUnavailable(Exception):
    """The model gave no answer at all: down, overloaded, over quota."""


class LlmRejected(Exception):
    """The model refuses the client's own options; the message is the model server's."""


class LlmBroke(Exception):
    """The model's answer broke off after it had begun."""


@dataclass(slots=True)
class LlmUsage:
    """Tokens of the call, and why it ended."""

    prompt: int = 0
    completion: int = 0
    finish_reason: str = "stop"


class Llm:
    """Streams chat completions of a model, or of another one that a call names."""

    def __init__(self, gateway: httpx2.AsyncClient, model: str) -> None:
        self._gateway = gateway
        self._model = model

    async def stream(
        self,
        messages: list[dict[str, Any]],
        options: dict[str, Any],
        headers: dict[str, str],
        usage: LlmUsage,
        model: str | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield text as it comes and fill in `usage`.

        Raises `LlmUnavailable` before and `LlmBroke` after the first text.
        """
        body = {
            **options,
            "model": model or self._model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        begun = False
        try:
            async with self._gateway.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
                if response.status_code in (400, 422):
                    raise LlmRejected(_message(await response.aread(), response.status_code))
                if response.status_code != 200:
                    raise LlmUnavailable(_message(await response.aread(), response.status_code))
                async with aclosing(_events(response)) as events:
                    async for event in events:
                        _note(event, usage)
                        if text := _delta(event):
                            begun = True
                            usage.completion += 1  # about a token; the model's own count replaces it
                            yield text
        except (LlmBroke, httpx2.HTTPError) as error:
            kind = LlmBroke if begun else LlmUnavailable
            reason = str(error) if isinstance(error, LlmBroke) else f"connection failed ({type(error).__name__})"
            raise kind(reason) from None


async def _events(response: httpx2.Response) -> AsyncGenerator[dict[str, Any], None]:
    """The stream's events up to `[DONE]`. Raises `LlmBroke` when it ends without, or with an error."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        event = orjson.loads(data)
        if "error" in event:
            raise LlmBroke(event["error"].get("message", "no reason given"))
        yield event
    raise LlmBroke("the stream ended early")


def _delta(event: dict[str, Any]) -> str:
    choices = event.get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or ""


def _note(event: dict[str, Any], usage: LlmUsage) -> None:
    for choice in event.get("choices") or []:
        usage.finish_reason = choice.get("finish_reason") or usage.finish_reason
    if counted := event.get("usage"):
        usage.prompt = counted["prompt_tokens"]
        usage.completion = counted["completion_tokens"]


def _message(body: bytes, status: int) -> str:
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"status {status}"
