"""The request as the gateway understands it: parsed once, its bytes kept."""

from dataclasses import dataclass
from typing import Any

import orjson

from capstan.gateway.api import Api
from capstan.gateway.outcome import Outcome, Refusal

_WANT_USAGE = b'"stream_options":{"include_usage":true},'
_MAX_N = 128
"""Most answers to one request; OpenAI's bound. vLLM alone would take 16,384."""


@dataclass(slots=True)
class ParsedRequest:
    """What routing, quotas and the relay need to know of a body."""

    api: Api
    model: str
    stream: bool
    forward_usage: bool
    size: int
    """Bytes of the client's body."""
    output_tokens: int | None
    """The client's own limit for one answer, if it set one."""
    answers: int
    body: bytes
    """What goes upstream: the client's bytes, with a usage event asked for in streams."""
    fields: dict[str, Any]

    def named(self, model: str) -> bytes:
        """The body for an upstream that knows the model as `model`."""
        if model == self.model:
            return self.body
        fields = {**self.fields, "model": model}
        return _json(_asking_for_usage(fields) if self.stream and self.api.usage_on_request else fields)


class TokenEstimate:
    """A model's tokens where nobody has counted them, learned from the usage that it reports."""

    __slots__ = ("_per_byte", "_per_second")

    def __init__(self) -> None:
        self._per_byte = 0.25
        self._per_second = 0.0

    def prompt(self, size: int) -> int:
        """Prompt tokens of a body of `size` bytes."""
        return int(size * self._per_byte) + 1

    def written(self, seconds: float) -> int:
        """Output tokens of an answer that was written, unseen, for so long."""
        return int(seconds * self._per_second)

    def learn_pace(self, tokens: int, seconds: float) -> None:
        """An answer of so many output tokens took so long."""
        seen = tokens / max(seconds, 1e-3)
        self._per_second += 0.1 * (seen - self._per_second) if self._per_second else seen

    def learn_prompt(self, size: int, tokens: int) -> None:
        """A prompt of `size` bytes had `tokens` tokens. Upwards fast, downwards slowly: it should rarely fall short."""
        seen = min(tokens / max(size, 1), 1.0)
        self._per_byte += (0.5 if seen > self._per_byte else 0.02) * (seen - self._per_byte)


def parse(api: Api, raw: bytes) -> ParsedRequest:
    """Parse a model request's body. Raises `Refusal`."""
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
    limit = _output_limit(api, body) if api.limits else 0
    answers = _answers(api, body) if api.limits else 0
    wanted, sent = _usage_options(body, raw) if stream and api.usage_on_request else (True, raw)
    return ParsedRequest(api, model, stream, wanted, len(raw), limit, answers, sent, body)


def _output_limit(api: Api, body: dict[str, Any]) -> int | None:
    for name in api.limits:
        value = body.get(name)
        if value is not None:
            return _positive(name, value)
    return None


def _answers(api: Api, body: dict[str, Any]) -> int:
    """How many texts the model is to write: `n` for each prompt."""
    n = body.get("n")
    answers = 1 if n is None else _positive("n", n, _MAX_N)
    prompts = body.get("prompt") if api.prompt == "prompt" else None
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        answers *= len(prompts)
    return answers


def _positive(name: str, value: Any, most: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        bound = f"from 1 to {most}" if most is not None else "of at least 1"
        raise Refusal(Outcome.INVALID_REQUEST, f"'{name}' must be a whole number {bound}", param=name)
    return value


def _usage_options(body: dict[str, Any], raw: bytes) -> tuple[bool, bytes]:
    """Whether the client asked for usage, and the body that asks for it in any case."""
    options = body.get("stream_options")
    if options is None and "stream_options" not in body:
        start = raw.index(b"{") + 1
        return False, raw[:start] + _WANT_USAGE + raw[start:]
    if options is not None and not isinstance(options, dict):
        raise Refusal(Outcome.INVALID_REQUEST, "'stream_options' must be an object", param="stream_options")
    if options and options.get("include_usage"):
        return True, raw
    return False, _json(_asking_for_usage(body))


def _asking_for_usage(body: dict[str, Any]) -> dict[str, Any]:
    options = body.get("stream_options") or {}
    if options.get("include_usage"):
        return body
    return {**body, "stream_options": {**options, "include_usage": True}}


def _json(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # it reads four times as deep as it writes
        raise Refusal(Outcome.INVALID_REQUEST, "the request body is nested more than 250 levels deep") from None
