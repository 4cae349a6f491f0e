"""`python -m loadtest.llm_bench.naive`: what one writes first: Hugging Face `generate` behind FastAPI.

With `--batch 1` one request at a time, the others wait. With `--batch 32` static batching: what waits, up to 32, is
padded on the left and generated for together until the longest answer is complete; who comes meanwhile waits for the
next batch. Tokens are streamed as they come, which is kind to it: its first tokens are seen as early as can be.
Runs in the worker's environment, so that both sides have the same PyTorch, weights and number format.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from capstan.common.checkpoint import prepare
from capstan.common.settings import CommonSettings
from capstan.worker.command import cpu_dtype
from capstan.worker.machine import inspect
from capstan.worker.settings import WorkerSettings

GATHER_S = 0.05
"""How long a batch waits for more requests after its first one."""


@dataclass
class Job:
    """A request, and the tokens that came for it; None ends them."""

    prompt: str
    max_tokens: int
    loop: asyncio.AbstractEventLoop
    tokens: "asyncio.Queue[int | None]" = field(default_factory=asyncio.Queue)
    given: int = 0

    def give(self, token: int | None) -> None:
        """Hand over a token from the thread that generates."""
        self.loop.call_soon_threadsafe(self.tokens.put_nowait, token)


class Rows(BaseStreamer):
    """Hands each row's tokens to its job; a row that has all it asked for is done, though its batch is not."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        """The prompts first, then one token for each row."""
        if self._prompt:
            self._prompt = False
            return
        for job, token in zip(self._jobs, value.reshape(-1).tolist(), strict=True):
            if job.given < job.max_tokens:
                job.given += 1
                job.give(token)
                if job.given == job.max_tokens:
                    job.give(None)

    def end(self) -> None:
        """Nothing: each job has ended by itself."""


class Server:
    """A model, and a queue of jobs before it."""

    def __init__(self, model: Any, tokenizer: Any, batch: int) -> None:
        self.tokenizer = tokenizer
        self._model = model
        self._batch = batch
        self._queue: asyncio.Queue[Job] = asyncio.Queue()

    async def submit(self, messages: list[dict[str, str]], max_tokens: int) -> Job:
        """Put a request in line."""
        prompt = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        job = Job(prompt, max_tokens, asyncio.get_running_loop())
        await self._queue.put(job)
        return job

    async def work(self) -> None:
        """Generate for ever, batch after batch."""
        while True:
            jobs = [await self._queue.get()]
            if self._batch > 1:
                await asyncio.sleep(GATHER_S)
            while len(jobs) < self._batch and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
            await asyncio.to_thread(self._generate, jobs)

    def _generate(self, jobs: list[Job]) -> None:
        longest = max(job.max_tokens for job in jobs)
        inputs = self.tokenizer([job.prompt for job in jobs], return_tensors="pt", padding=True)
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=longest, min_new_tokens=longest, do_sample=False, pad_token_id=self.tokenizer.pad_token_id
        )
        with torch.inference_mode():
            self._model.generate(**inputs, generation_config=config, streamer=Rows(jobs))


async def events(server: Server, job: Job, model: str, prompt_tokens: int) -> AsyncIterator[str]:
    """The answer as OpenAI streams it."""
    head = {"id": "chatcmpl-naive", "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    given = 0
    while (token := await job.tokens.get()) is not None:
        given += 1
        choice = {"index": 0, "delta": {"content": server.tokenizer.decode([token]) or " "}, "finish_reason": None}
        yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": given, "total_tokens": prompt_tokens + given}
    yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


def app(server: Server) -> FastAPI:
    """The API: as much of chat completions as the bench needs."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        working = asyncio.create_task(server.work())
        yield
        working.cancel()

    api = FastAPI(lifespan=lifespan)

    @api.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @api.post("/v1/chat/completions")
    async def chat(body: dict[str, Any]) -> StreamingResponse:
        job = await server.submit(body["messages"], body["max_tokens"])
        tokens = len(server.tokenizer(job.prompt).input_ids)
        return StreamingResponse(events(server, job, body["model"], tokens), media_type="text/event-stream")

    return api


def load(reference: str, batch: int) -> Server:
    """The worker's model in the worker's number format."""
    directory: Path = prepare(reference, CommonSettings().cache_dir, say=print)
    dtype = getattr(torch, cpu_dtype(WorkerSettings(), inspect()))
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    return Server(model.eval(), tokenizer, batch)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="naive", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1, help="requests generated for together")
    parser.add_argument("--model", default=WorkerSettings.model_fields["model"].default)
    arguments = parser.parse_args()
    server = load(arguments.model, arguments.batch)
    uvicorn.run(app(server), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
