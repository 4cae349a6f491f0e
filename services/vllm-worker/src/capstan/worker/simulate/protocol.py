"""Requests and errors in vLLM's shapes and words (0.32)."""

import json
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import orjson

from capstan.worker.simulate import text
from capstan.worker.simulate.engine import Request

DEFAULT_MAX_TOKENS = 64
"""Where a request names no limit. vLLM would go on to the context's end."""

BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."


class Refused(Exception):
    """A request that gets an error response."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(frozen=True, slots=True)
class Generation:
    """A validated chat or text completion."""

    request: Request
    model: str
    chat: bool
    stream: bool
    usage: bool
    continuous_usage: bool


def parse_object(body: bytes, content_type: str) -> dict[str, Any]:
    """The JSON object in a request body. Raises `Refused`."""
    if content_type.partition(";")[0].strip() != "application/json":
        raise _invalid("  Unsupported Media Type: Only 'application/json' is allowed", None)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _json_mistake(body)
    if not isinstance(value, dict):
        hint = "Input should be a valid dictionary or object to extract fields from"
        raise _field("body", "model_attributes_type", hint, value)
    return value


def generation(body: dict[str, Any], *, chat: bool, models: Container[str], base: str, context: int) -> Generation:
    """Validate a completion request as vLLM does. Raises `Refused`."""
    limit = _max_tokens(body, chat=chat)
    stream = bool(body.get("stream"))
    options = body.get("stream_options") or {}
    if options and not stream:
        raise _parameter("stream_options", "Stream options can only be defined when `stream=True`.")
    if body.get("n") not in (None, 1):
        raise Refused(400, "the simulator gives one choice: leave n out, or set it to 1", param="n")
    prompt, last = prompt_of(body, chat=chat)
    model = body.get("model") or base
    if model not in models:
        raise _no_such_model(model, base)
    if limit is not None and limit > context:
        message = (
            f"max_tokens={limit} cannot be greater than max_model_len={context}. Please request fewer output tokens."
        )
        raise _parameter("max_tokens", message, limit)
    tokens = text.token_ids(text.tokenize(prompt))
    _require_room(len(tokens), context)
    request = _request(body, tokens, last, min(limit or DEFAULT_MAX_TOKENS, context - len(tokens)))
    request.adapter = None if model == base else model
    usage = bool(options.get("include_usage"))
    continuous = usage and bool(options.get("continuous_usage_stats"))
    return Generation(request, model, chat, stream, usage, continuous)


def require(body: dict[str, Any], name: str) -> str:
    """A field that must be there, as text. Raises `Refused`."""
    if name not in body:
        raise _missing(name, body)
    return str(body[name] or "")


def prompt_of(body: dict[str, Any], *, chat: bool) -> tuple[str, str]:
    """The whole prompt, and the part to reply to: a chat's last message. Raises `Refused`."""
    if not chat:
        prompt = _prompt(body)
        return prompt, prompt
    messages = _messages(body)
    turns = "".join(f"<|im_start|>{m.get('role')}\n{_content(m)} <|im_end|>\n" for m in messages)
    return f"{turns}<|im_start|>assistant\n", _content(messages[-1])


def _request(body: dict[str, Any], tokens: list[int], last: str, limit: int) -> Request:
    answer = text.reply(last) or ["..."]
    if body.get("ignore_eos"):
        answer *= -(-limit // len(answer))
    answer, stop = _cut_at_stop(answer, body.get("stop"))
    if len(answer) > limit or (body.get("ignore_eos") and stop is None):
        return Request(tokens, answer[:limit], limit, None, "length")
    return Request(tokens, answer, limit, None, "stop", stop)


def _cut_at_stop(answer: list[str], stop: Any) -> tuple[list[str], str | None]:
    """The answer up to the first of the stop strings, and which it was."""
    words = [stop] if isinstance(stop, str) else stop or []
    whole = "".join(answer)
    found = [(whole.find(word), word) for word in words if word and word in whole]
    if not found:
        return answer, None
    at, word = min(found)
    return text.tokenize(whole[:at]) or [""], word


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    if "messages" not in body:
        raise _missing("messages", body)
    messages = body["messages"]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _field("body.messages", "list_type", "Input should be a valid list", messages)
    if not messages:
        raise Refused(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
    return messages


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content if isinstance(part, dict))


def _prompt(body: dict[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise _parameter("prompt", "Either prompt or prompt_embeds must be provided and non-empty.")
    return prompt


def _max_tokens(body: dict[str, Any], *, chat: bool) -> int | None:
    name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        hint = "Input should be a valid integer, unable to parse string as an integer"
        raise _field(f"body.{name}", "int_parsing", hint, value)
    if not isinstance(value, int):
        raise _field(f"body.{name}", "int_type", "Input should be a valid integer", value)
    if value < 1:
        raise _parameter("max_tokens", f"max_tokens must be at least 1, got {value}.", value)
    return value


def _require_room(prompt_tokens: int, context: int) -> None:
    if prompt_tokens < context:
        return
    # vLLM stops counting at the first token too many.
    raise _parameter(
        "input_tokens",
        f"This model's maximum context length is {context} tokens. However, your prompt contains "
        f"at least {context + 1} input tokens, which exceeds this limit even without any output tokens. "
        "Please reduce the length of the input prompt.",
        context + 1,
    )


def _no_such_model(model: object, base: str) -> Refused:
    message = f"The model `{model}` does not exist. Valid aliases: {base}."
    return Refused(404, message, "NotFoundError", "model")


def _parameter(name: str, message: str, value: object = None) -> Refused:
    shown = f", value={value}" if value is not None else ""
    return Refused(400, f"{message} (parameter={name}{shown})", param=name)


def _missing(name: str, body: dict[str, Any]) -> Refused:
    return _field(f"body.{name}", "missing", "Field required", body)


def _field(place: str, kind: str, message: str, value: object) -> Refused:
    shown = f"<{type(value).__name__} of {len(value)} items>" if isinstance(value, list | dict) else str(value)
    return _invalid(f"  {{'type': '{kind}', 'loc': '{place}', 'msg': '{message}', 'input': {shown!r}}}", place)


def _invalid(details: str, param: str | None) -> Refused:
    return Refused(400, f"1 validation error:\n{details}", "Bad Request", param)


def _json_mistake(body: bytes) -> Any:
    """What the standard parser says, since vLLM reports its words and position."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        place = f"body.{error.pos}"
        details = {"type": "json_invalid", "loc": place, "msg": "JSON decode error", "input": "<dict of 0 items>"}
        raise _invalid(f"  {details | {'ctx': {'error': error.msg}}}", place) from None
    except UnicodeDecodeError:
        raise Refused(400, "There was an error parsing the body", "Bad Request") from None
