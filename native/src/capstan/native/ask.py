"""Asks a running stack and shows the answer as it streams, with numbered sources."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from capstan.native.console import Console


class AskFailed(Exception):
    """The stack gave no answer; the message is the gateway's own."""


@dataclass
class Answered:
    """A complete answer."""

    text: str = ""
    annotations: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """What is wrong with the citations: ids that do not exist, quotes that are not in their passage."""
        sources = {source["id"]: source for source in self.details.get("sources", [])}
        found = []
        for annotation in (a["url_citation"] for a in self.annotations):
            marker = self.text[annotation["start_index"] : annotation["end_index"]]
            if marker != f"[{annotation['id']}]":
                found.append(f"citation {annotation['id']} points at {marker!r}")
            source = sources.get(annotation["id"])
            if source is None:
                found.append(f"citation {annotation['id']} names no source")
            elif annotation["quote"] not in source["text"]:
                found.append(f"the quote of citation {annotation['id']} is not in its passage")
        return found


async def ask(gateway: str, api_key: str, question: str, console: Console) -> Answered:
    """Ask the model `docs`, print the answer as it comes. Raises `AskFailed`."""
    answered = Answered()
    async for event in _events(gateway, api_key, question):
        for choice in event["choices"]:
            delta = choice["delta"]
            if content := delta.get("content"):
                answered.text += content
                console.plain(content, end="")
            answered.annotations += delta.get("annotations", [])
        answered.details = event.get("capstan", answered.details)
    console.plain()
    _show_sources(answered, console)
    return answered


async def _events(gateway: str, api_key: str, question: str) -> AsyncIterator[dict[str, Any]]:
    body = {"model": "docs", "messages": [{"role": "user", "content": question}], "stream": True}
    headers = {"authorization": f"Bearer {api_key}"}
    timeout = httpx2.Timeout(180.0, connect=3.0)
    try:
        async with (
            httpx2.AsyncClient(base_url=gateway, timeout=timeout, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response,
        ):
            if response.status_code != 200:
                await response.aread()
                raise AskFailed(response.json()["error"]["message"])
            async for line in response.aiter_lines():
                if line.startswith("data:") and line != "data: [DONE]":
                    event = json.loads(line[5:])
                    if "error" in event:
                        raise AskFailed(event["error"]["message"])
                    yield event
    except httpx2.TransportError as error:
        raise AskFailed(f"{gateway} cannot be reached ({type(error).__name__}): is the stack running?") from None


def _show_sources(answered: Answered, console: Console) -> None:
    quotes: dict[int, str] = {}
    for annotation in (a["url_citation"] for a in answered.annotations):
        quotes.setdefault(annotation["id"], annotation["quote"])
    cited = [source for source in answered.details.get("sources", []) if source["id"] in quotes]
    if cited:
        console.plain("\nSources")
    for source in cited:
        place = " > ".join(dict.fromkeys([source["title"], *source["heading"]]))
        console.plain(f"  [{source['id']}] {place}\n      {source['url']}")
        console.plain(f"      “{_short(quotes[source['id']])}”")
    for note in (answered.details.get("note"), answered.details.get("rerank_note")):
        if note:
            console.plain(f"  note: {note}")


def _short(text: str, most: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
