"""The request as the gateway understands it: parsed once, its bytes kept."""

from dataclasses import dataclass
from typing import Any

import orjson

from capstan.gateway.outcome import Outcome, Refusal

CHARS_PER_TOKEN = 4
"""For estimates before the model's own count is known; settled to the real usage afterwards."""

_WANT_USAGE = b'"stream_options":{"include_usage":true},'


@dataclass(slots=True)
class ParsedRequest:
    """What routing, quotas and the relay need to know of a body."""

    model: str
    stream: bool
    forward_usage: bool
    prompt_tokens: int
    """Estimated from the body's length."""
    output_tokens: int | None
    """The client's own limit, if it set one."""
    body: bytes
    """What goes upstream: the client's bytes, with a usage event asked for in streams."""

    def reserve(self, default_output_tokens: int) -> int:
        """Tokens to reserve before the request runs."""
        return self.prompt_tokens + (self.output_tokens or default_output_tokens)


def parse(raw: bytes) -> ParsedRequest:
    """Parse a chat or text completion body. Raises `Refusal`."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refusal(Outcome.INVALID_REQUEST, f"the request body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refusal(Outcome.INVALID_REQUEST, "the request body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Refusal(Outcome.INVALID_REQUEST, "name the model to use in 'model'", param="model")
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise Refusal(Outcome.INVALID_REQUEST, "'stream' must be true or false", param="stream")
    forward_usage, sent = _usage_options(body, raw, stream)
    return ParsedRequest(model, stream, forward_usage, len(raw) // CHARS_PER_TOKEN, _output_limit(body), sent)


def _output_limit(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Refusal(Outcome.INVALID_REQUEST, f"'{name}' must be a whole number of at least 1", param=name)
        return value
    return None


def _usage_options(body: dict[str, Any], raw: bytes, stream: bool) -> tuple[bool, bytes]:
    """Whether the client asked for usage, and the body that asks for it in any case."""
    if not stream:
        return False, raw
    options = body.get("stream_options")
    if options is None and "stream_options" not in body:
        start = raw.index(b"{") + 1
        return False, raw[:start] + _WANT_USAGE + raw[start:]
    if options is not None and not isinstance(options, dict):
        raise Refusal(Outcome.INVALID_REQUEST, "'stream_options' must be an object", param="stream_options")
    wanted = bool(options and options.get("include_usage"))
    if wanted:
        return True, raw
    body["stream_options"] = {**(options or {}), "include_usage": True}
    return False, orjson.dumps(body)
