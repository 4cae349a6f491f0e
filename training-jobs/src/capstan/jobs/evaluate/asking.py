"""Whole answers of an arm to the labelled questions, asked once and kept.

Each question is asked as it is (`given`); those marked `withhold` are asked again without their gold
documents (`withheld`), so that the corpus no longer holds what answers them. An answer is one line of
JSON, written as soon as it is there: an interrupted run goes on where it stopped. Its key is a hash of
everything that was sent and of what the arm stands for.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.jobs.evaluate.client import TENANT
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.rows import Rows, key_of

Condition = Literal["given", "withheld"]
Headers = Callable[[], dict[str, str]]
"""Headers of one request: an identity is signed anew for each, as it expires."""
Sleep = Callable[[float], Awaitable[None]]

_TRIES = 8
"""Times that a busy server is asked again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a question under a condition, at an arm with options."""

    question: Question
    condition: Condition
    model: str
    options: Mapping[str, Any]
    meaning: str = ""
    """What the arm's name stands for now, as the generator tells it: a changed arm is asked anew."""

    @property
    def body(self) -> dict[str, Any]:
        """The request's body."""
        excluded = sorted(self.question.documents) if self.condition == "withheld" else []
        capstan = {**self.options, **({"exclude": excluded} if excluded else {})}
        messages = [{"role": "user", "content": self.question.text}]
        body = {"model": self.model, "messages": messages, "temperature": 0}
        return {**body, "capstan": capstan} if capstan else body

    @property
    def key(self) -> str:
        """What makes two requests the same."""
        return key_of(self.body, self.meaning)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `error` is set where nothing usable did; such a line is asked again by the next run."""

    key: str
    id: str
    condition: Condition
    model: str
    question: str
    seconds: float = 0.0
    text: str = ""
    annotations: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    """The `capstan` object of the completion, as it was sent."""
    error: str | None = None

    @property
    def abstained(self) -> bool:
        """Whether the generator said that the documents hold no answer."""
        return self.details.get("mode") == "abstained"

    @property
    def passages(self) -> list[dict[str, Any]]:
        """The evidence in its order, best first."""
        return list(self.details.get("sources") or ())


def plan(questions: Iterable[Question], model: str, options: Mapping[str, Any], meaning: str = "") -> list[Ask]:
    """Every request of a run."""
    asks: list[Ask] = []
    for question in questions:
        asks.append(Ask(question, "given", model, options, meaning))
        if question.withhold:
            asks.append(Ask(question, "withheld", model, options, meaning))
    return asks


def headers_for(key: str | None, secret: str | None) -> Headers:
    """Bearer key for a gateway, or a signed identity for the generator itself. Raises `EvaluateError`."""
    if key:
        return lambda: {"authorization": f"Bearer {key}"}
    if secret:
        signer = Signer(secret)
        return lambda: {IDENTITY_HEADER: signer.sign(Identity(TENANT, "evaluate"))}
    raise EvaluateError("no way to say who asks: give --key for a gateway, or set CAPSTAN_IDENTITY_SECRET")


async def meaning_of(client: httpx2.AsyncClient, model: str, headers: Headers) -> str:
    """What the generator says that the model's arm is; empty where it does not tell."""
    try:
        response = await client.get("/v1/arms", headers=headers())
    except httpx2.HTTPError as error:
        raise EvaluateError(f"{client.base_url} does not answer ({type(error).__name__}): is the stack up?") from None
    if response.status_code != 200:
        return ""
    arm = model.partition(":")[2] or "default"
    return json.dumps([row for row in response.json()["data"] if row.get("name") == arm], sort_keys=True)


async def ask_all(
    asks: Sequence[Ask],
    client: httpx2.AsyncClient,
    headers: Headers,
    path: Path,
    *,
    concurrency: int = 16,
    say: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> list[Answer]:
    """Ask what is not in the file yet; all answers, in the order of `asks`.

    A request that fails becomes an answer with `error`: it is counted, and asked again by the next run.
    """
    rows = Rows(path)
    missing = [ask for ask in asks if (rows.get(ask.key) or {"error": ""})["error"] is not None]
    say(f"{len(asks) - len(missing)} of {len(asks)} answers are there already")
    slots = asyncio.Semaphore(concurrency)
    done = 0

    async def one(ask: Ask) -> None:
        nonlocal done
        async with slots:
            answer = await _ask(ask, client, headers, now, sleep)
        row = asdict(answer)
        rows.put(row.pop("key"), row)
        done += 1
        if done % 20 == 0 or done == len(missing):
            say(f"{done} of {len(missing)} asked")

    async with asyncio.TaskGroup() as group:
        for ask in missing:
            group.create_task(one(ask))
    return [Answer(key=ask.key, **(rows.get(ask.key) or {})) for ask in asks]


async def _ask(
    ask: Ask, client: httpx2.AsyncClient, headers: Headers, now: Callable[[], float], sleep: Sleep
) -> Answer:
    """One answer. A server that is busy is asked again."""
    common: dict[str, Any] = {
        "key": ask.key,
        "id": ask.question.id,
        "condition": ask.condition,
        "model": ask.model,
        "question": ask.question.text,
    }
    started = now()
    try:
        response = await client.post("/v1/chat/completions", json=ask.body, headers=headers())
        for attempt in range(_TRIES):
            if response.status_code not in (429, 503):
                break
            await sleep(float(response.headers.get("retry-after", 1 + attempt)))
            response = await client.post("/v1/chat/completions", json=ask.body, headers=headers())
        body = response.json()
        if response.status_code != 200:
            return Answer(**common, error=f"{response.status_code}: {body['error']['message']}")
        message = body["choices"][0]["message"]
        return Answer(
            **common,
            seconds=round(now() - started, 3),
            text=message["content"] or "",
            annotations=message.get("annotations") or [],
            details=body.get("capstan") or {},
        )
    except httpx2.HTTPError as error:
        return Answer(**common, error=f"connection failed ({type(error).__name__})")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return Answer(**common, error=f"not a chat completion ({type(error).__name__}: {error})")


def paired(answers: Iterable[Answer], questions: Iterable[Question]) -> Iterator[tuple[Question, Answer]]:
    """Answers with their questions; those of other questions are left out."""
    by_id = {question.id: question for question in questions}
    for answer in answers:
        if answer.id in by_id:
            yield by_id[answer.id], answer
