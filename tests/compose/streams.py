"""Chat streams through the stack, and how each of them ended."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx2

MODEL = "smollm2-135m"
COMPLETED, FAILED_OPENLY, TRUNCATED = "completed", "ended with an error event", "truncated"


async def stream(urls: Sequence[str], headers: dict[str, str], tokens: int, started: Callable[[], None]) -> str:
    """One chat stream of `tokens` tokens: how it ended, or the code of its refusal.

    A refused connection and a draining gateway send it to the next URL, as a client's retry or a balancer would.
    """
    body: dict[str, Any] = {"model": MODEL, "stream": True, "max_tokens": tokens, "ignore_eos": True}
    body["messages"] = [{"role": "user", "content": "Count the sheep, one by one."}]
    refusal = "no gateway"
    for url in urls:
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            try:
                async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                    if response.status_code == 200:
                        return await _ending(response, started)
                    refusal = str(json.loads(await response.aread())["error"]["code"])
            except (httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError) as error:
                refusal = type(error).__name__
                continue
            if refusal != "draining":
                return refusal
    return refusal


async def _ending(response: httpx2.Response, started: Callable[[], None]) -> str:
    ending = TRUNCATED
    first = True
    try:
        async for line in response.aiter_lines():
            if first and '"content"' in line:
                started()
                first = False
            if line == "data: [DONE]":
                ending = COMPLETED
            elif line.startswith("data: {") and "error" in json.loads(line[6:]):
                ending = FAILED_OPENLY
    except httpx2.TransportError:
        return TRUNCATED
    return ending


async def under_fault(
    urls: Sequence[str], headers: dict[str, str], fault: Callable[[], object], *, streams: int, tokens: int
) -> Counter[str]:
    """Run `streams` streams; `fault` happens in a thread once all of them have begun. How they ended."""
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(stream(_turned(urls, i), headers, tokens, begun.release)) for i in range(streams)]
    for _ in range(streams):
        await begun.acquire()
    await asyncio.to_thread(fault)
    return Counter(await asyncio.gather(*tasks))


async def steadily(
    urls: Sequence[str], headers: dict[str, str], fault: Callable[[], object], *, clients: int, tokens: int
) -> Counter[str]:
    """Clients that ask one stream after the other until `fault` has returned. How the streams ended."""
    done = asyncio.Event()
    endings: Counter[str] = Counter()

    async def client(number: int) -> None:
        while not done.is_set():
            endings[await stream(_turned(urls, number), headers, tokens, lambda: None)] += 1

    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    await asyncio.to_thread(fault)
    done.set()
    await asyncio.gather(*tasks)
    return endings


def said(endings: Counter[str]) -> str:
    """Endings as words: `12 completed, 3 ended with an error event`."""
    return ", ".join(f"{count} {ending}" for ending, count in endings.most_common())


def _turned(urls: Sequence[str], by: int) -> list[str]:
    cut = by % len(urls)
    return [*urls[cut:], *urls[:cut]]
