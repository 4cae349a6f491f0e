"""From a question to a cited answer: retrieve, rerank, pack, generate, bind."""

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from capstan.common.errors import ApiError
from capstan.generator.citations import CitationBinder
from capstan.generator.evidence import Evidence, EvidenceFinder, Passage
from capstan.generator.llm import Llm, LlmUnavailable, LlmUsage
from capstan.generator.prompt import messages, pack
from capstan.generator.settings import GeneratorSettings
from capstan.generator.text import best_quote, words

log = logging.getLogger("capstan.generator.answer")

ABSTENTION = "I could not find an answer to this in the documents."
_UNAVAILABLE = "The language model is not available at the moment. These passages fit the question best:\n"
_QUOTES = 3
_GIVE_UP_AFTER = 3
"""Unsupported sentences in a row after which a strict answer ends: the model has left its evidence."""


class Mode(StrEnum):
    """How an answer came about."""

    GENERATED = "generated"
    EXTRACTIVE = "extractive"
    ABSTAINED = "abstained"


@dataclass
class Answer:
    """An answer in the making; complete when its stream has ended."""

    question: str
    evidence: Evidence
    passages: list[Passage]
    binder: CitationBinder
    mode: Mode = Mode.GENERATED
    note: str | None = None
    usage: LlmUsage = field(default_factory=LlmUsage)
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def grounded(self) -> float | None:
        """Share of the answer's sentences that a passage supports; None without such sentences."""
        return round(self.binder.supported / self.binder.sentences, 3) if self.binder.sentences else None


class Answerer:
    """Answers questions for a tenant. Time and randomness are handed in."""

    def __init__(
        self,
        finder: EvidenceFinder,
        llm: Llm,
        settings: GeneratorSettings,
        *,
        nonce: Callable[[], str] = lambda: secrets.token_hex(6),
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._finder = finder
        self._llm = llm
        self._settings = settings
        self._nonce = nonce
        self._now = now

    async def prepare(self, question: str, answer_tokens: int, headers: dict[str, str]) -> Answer:
        """Find and pack the evidence. Raises `ApiError` when the retriever is down."""
        settings = self._settings
        started = self._now()
        evidence = await self._finder.find(question, headers)
        passages = pack(
            evidence.passages,
            question=question,
            context_tokens=settings.context_tokens,
            answer_tokens=answer_tokens,
            most=settings.passages,
        )
        if evidence.passages and not passages:
            message = "question and answer leave no room for evidence; shorten the question or lower max_tokens"
            raise ApiError(400, "question_too_long", message, param="messages")
        answer = Answer(
            question,
            evidence,
            passages,
            CitationBinder(passages, settings.min_support, strict=settings.grounding == "strict"),
        )
        answer.timings_ms["evidence"] = self._since(started)
        if not passages or (evidence.best is not None and evidence.best < settings.min_relevance):
            answer.mode = Mode.ABSTAINED
        return answer

    async def stream(
        self, answer: Answer, options: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[str, None]:
        """The answer's text, as it may be shown. Raises `LlmBroke` when the model fails midway."""
        if answer.mode is Mode.ABSTAINED:
            answer.binder.text = ABSTENTION
            yield ABSTENTION
            return
        started = self._now()
        try:
            async with aclosing(self._generate(answer, options, headers)) as pieces:
                async for piece in pieces:
                    answer.timings_ms.setdefault("first_text", self._since(started))
                    yield piece
        except LlmUnavailable as error:
            log.warning("answering without the language model", extra={"error": str(error)})
            answer.mode, answer.note = Mode.EXTRACTIVE, str(error)
            for piece in self._extract(answer):
                yield piece
        answer.timings_ms["answer"] = self._since(started)

    async def _generate(
        self, answer: Answer, options: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[str, None]:
        prompt = messages(answer.passages, answer.question, nonce=self._nonce)
        async with aclosing(self._llm.stream(prompt, options, headers, answer.usage)) as deltas:
            async for delta in deltas:
                if piece := answer.binder.feed(delta):
                    yield piece
                if answer.binder.strict and answer.binder.unsupported_in_a_row >= _GIVE_UP_AFTER:
                    break
        if piece := answer.binder.finish():
            yield piece
        if not answer.binder.citations:
            # Nothing of what the model wrote is in the passages: show what is.
            quote = self._best_sentence(answer, answer.passages[0])
            yield answer.binder.quote(1, quote, ("\n\n" if answer.binder.text else "") + "The documents say: ")

    def _extract(self, answer: Answer) -> list[str]:
        binder = answer.binder
        binder.text = _UNAVAILABLE
        quotes = [
            binder.quote(number, self._best_sentence(answer, passage), "\n- ")
            for number, passage in enumerate(answer.passages[:_QUOTES], start=1)
        ]
        return [_UNAVAILABLE, *quotes]

    @staticmethod
    def _best_sentence(answer: Answer, passage: Passage) -> str:
        return best_quote(words(answer.question), passage.text)

    def _since(self, started: float) -> float:
        return round((self._now() - started) * 1e3, 1)
