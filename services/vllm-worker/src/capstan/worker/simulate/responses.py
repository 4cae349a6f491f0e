"""Bodies of completions, streamed and whole, key by key as vLLM 0.32 sends them."""

from typing import Any

import orjson

from capstan.worker.simulate.prefix_cache import BLOCK
from capstan.worker.simulate.protocol import Generation

FINGERPRINT = "vllm-0.32.0-simulate"
DONE = b"data: [DONE]\n\n"

_NO_TRANSFER = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}


class Body:
    """Renders one generation. `created` is a Unix time in seconds."""

    def __init__(self, generation: Generation, request_id: str, created: int) -> None:
        self._generation = generation
        self._request = generation.request
        self._cached = 0
        kind = "chat.completion" if generation.chat else "text_completion"
        streamed = "chat.completion.chunk" if generation.chat else kind
        self._head: dict[str, Any] = {
            "id": request_id,
            "object": streamed if generation.stream else kind,
            "created": created,
            "model": generation.model,
        }

    def remember_cached(self) -> None:
        """Note how much of the prompt was cached, while the request still holds its blocks."""
        if self._request.lease is not None:
            self._cached = self._request.lease.cached_tokens

    def role(self) -> bytes:
        """The first chunk of a chat stream."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return self._chunk(choice, 0, {"prompt_token_ids": None, "prompt_text": None})

    def token(self, number: int) -> bytes:
        """The chunk of the `number`th token, counted from 1; the last one says why the stream ends."""
        finished = self._request.finished if number == self._request.sent else None
        return self.piece(self._request.answer[number - 1], number, finished)

    def piece(self, text: str, sent: int, finished: str | None) -> bytes:
        """A chunk with `text` after `sent` tokens."""
        ends = {"stop_reason": self._request.stop_reason} if finished else {}
        if self._generation.chat:
            choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finished}
            choice |= ends | {"token_ids": None}
        else:
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finished, "stop_reason": None}
            choice |= ends | {"prompt_token_ids": None, "token_ids": None}
        last = finished and not self._generation.usage
        return self._chunk(choice, sent, {"system_fingerprint": FINGERPRINT} if last else {})

    def usage(self) -> bytes:
        """The chunk without choices that ends a stream with `include_usage`."""
        details = {"cached_tokens": self._cached, "created_cache_tokens": self._created()}
        usage = self._usage(self._request.sent)
        usage["prompt_tokens_details"] = {name: value for name, value in details.items() if value is not None}
        return _event(self._head | {"choices": [], "usage": usage, "system_fingerprint": FINGERPRINT})

    def whole(self) -> dict[str, Any]:
        """A response that is not streamed."""
        request = self._request
        text = "".join(request.answer[: request.sent])
        end = {"logprobs": None, "finish_reason": request.finished, "stop_reason": request.stop_reason}
        prompts = {"prompt_logprobs": None, "prompt_token_ids": None}
        if self._generation.chat:
            absent = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
            message = {"role": "assistant", "content": text} | absent
            choice = {"index": 0, "message": message} | end | {"token_ids": None, "routed_experts": None}
            tail = prompts | {"prompt_text": None} | _NO_TRANSFER
        else:
            choice = {"index": 0, "text": text} | end | {"token_ids": None} | prompts | {"routed_experts": None}
            tail = dict(_NO_TRANSFER)
        usage = self._usage(request.sent) | {
            "prompt_tokens_details": {
                "cached_tokens": self._cached,
                "created_cache_tokens": self._created(),
                "multimodal_tokens": None,
            },
            "completion_tokens_details": None,
        }
        middle = {"service_tier": None, "system_fingerprint": FINGERPRINT, "usage": usage}
        return self._head | {"choices": [choice]} | middle | tail

    def _chunk(self, choice: dict[str, Any], sent: int, more: dict[str, Any]) -> bytes:
        body = self._head | {"choices": [choice]}
        if self._generation.continuous_usage:
            body["usage"] = self._usage(sent)
            if self._generation.chat:
                body["usage"]["completion_tokens_details"] = None
        return _event(body | more)

    def _usage(self, sent: int) -> dict[str, Any]:
        prompt = len(self._request.prompt)
        return {"prompt_tokens": prompt, "total_tokens": prompt + sent, "completion_tokens": sent}

    def _created(self) -> int | None:
        """Prompt tokens newly written to the prefix cache; vLLM says so for chats only, and null for none."""
        if not self._generation.chat:
            return None
        return (len(self._request.prompt) // BLOCK * BLOCK - self._cached) or None


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
