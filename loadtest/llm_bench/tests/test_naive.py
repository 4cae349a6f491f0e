"""The naive server's queue and batches, with a model that only counts. The real one runs in the benchmark."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

pytest.importorskip("torch", reason="needs PyTorch: the naive server runs in the worker's environment")

import torch

from loadtest.llm_bench.naive import Server, app


class Tokenizer:
    """One token a word."""

    pad_token_id = 0

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return messages[-1]["content"]

    def __call__(self, text: str | list[str], **_: Any) -> Any:
        class Words(dict[str, Any]):
            input_ids = text.split() if isinstance(text, str) else None

        return Words(input_ids=text)

    def decode(self, tokens: list[int]) -> str:
        return f"t{tokens[0]}"


class Model:
    """Generates 1, 2, 3, …, for each row; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], int]] = []

    def generate(self, input_ids: list[str], generation_config: Any, streamer: Any) -> None:
        longest = generation_config.max_new_tokens
        self.batches.append((input_ids, longest))
        streamer.put(torch.zeros(len(input_ids), 3))
        for token in range(1, longest + 1):
            streamer.put(torch.full((len(input_ids),), token))
        streamer.end()


async def _ask(client: httpx2.AsyncClient, prompt: str, tokens: int) -> list[Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
    text = (await client.post("/v1/chat/completions", json=body)).text
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize(("batch", "longest"), [(1, [2, 4]), (32, [4])])
async def test_each_gets_what_it_asked_for_in_batches_as_long_as_the_longest(
    serve: Any, batch: int, longest: list[int]
) -> None:
    model = Model()
    url = await serve(app(Server(model, Tokenizer(), batch)))
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        first, second = await asyncio.gather(_ask(client, "a b", 2), _ask(client, "a b c", 4))
    assert [e["choices"][0]["delta"]["content"] for e in first if e["choices"]] == ["t1", "t2"]
    assert first[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert second[-1]["usage"]["completion_tokens"] == 4
    assert sorted(tokens for _, tokens in model.batches) == longest
