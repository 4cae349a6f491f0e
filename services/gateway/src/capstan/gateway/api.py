"""The model routes that the gateway serves, and how their requests and streams differ.

OpenAI's chat, completions, embeddings and responses, Anthropic's messages, and rerank as Cohere, Jina and vLLM have it.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

from capstan.common.errors import error_body


@dataclass(frozen=True, slots=True)
class Api:
    """One model route."""

    path: str
    operation: str
    """OpenTelemetry's `gen_ai.operation.name`."""
    prompt: str
    """The field that holds the prompt."""
    limits: tuple[str, ...] = ()
    """Fields with the client's own bound on output tokens, the first one found counts. Empty: no output."""
    dialect: str = "openai"
    """How its streams and errors look: `openai`, `responses`, `anthropic`."""
    wire_path: bytes = field(init=False)
    """The path as bytes."""
    usage_on_request: bool = field(init=False)
    """Whether a stream tells its usage only when `stream_options` asks for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire_path", self.path.encode())
        object.__setattr__(self, "usage_on_request", self.dialect == "openai" and bool(self.limits))


APIS = {
    api.path: api
    for api in (
        Api("/v1/chat/completions", "chat", "messages", ("max_completion_tokens", "max_tokens")),
        Api("/v1/completions", "text_completion", "prompt", ("max_tokens",)),
        Api("/v1/embeddings", "embeddings", "input"),
        Api("/v1/rerank", "rerank", "documents"),
        Api("/v1/responses", "chat", "input", ("max_output_tokens",), "responses"),
        Api("/v1/messages", "chat", "messages", ("max_tokens",), "anthropic"),
    )
}


_ANTHROPIC = {"model_not_found": "not_found_error", "request_too_large": "request_too_large"}
_ANTHROPIC_KINDS = {"server_error": "api_error", "upstream_error": "api_error"}


def error_object(api: Api, message: str, kind: str, code: str, param: str | None) -> dict[str, Any]:
    """An error body in the shape that the route's clients expect."""
    if api.dialect != "anthropic":
        return error_body(message, kind, code, param)
    named = _ANTHROPIC.get(code) or _ANTHROPIC_KINDS.get(kind, kind)
    return {"type": "error", **error_body(message, named, code, param)}


def error_event(api: Api, message: str, code: str) -> bytes:
    """The event that ends a stream which broke: never a silent end, never the word for a complete one."""
    if api.dialect == "responses":
        fields = {"type": "error", "code": code, "message": message, "param": None}
        return b"event: error\ndata: " + orjson.dumps(fields) + b"\n\n"
    head = b"event: error\n" if api.dialect == "anthropic" else b""
    return head + b"data: " + orjson.dumps(error_object(api, message, "upstream_error", code, None)) + b"\n\n"
