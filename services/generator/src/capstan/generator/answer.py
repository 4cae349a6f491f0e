"""From a question to a cited answer: condense, retrieve, rerank, pack, generate, verify and bind."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from capstan.common.errors import ApiError
from capstan.common.telemetry import span
from capstan.generator.citations import CitationBinder
from capstan.generator.condense import ModelCondenser, Turn, condense
from capstan.generator.defuse import one_line
from capstan.generator.embeddings import Embed
from capstan.generator.evidence import Evidence, EvidenceFinder, Headers
from capstan.generator.extract import best_pieces
from capstan.generator.injection import speaks_to_the_model
from capstan.generator.llm import Llm, LlmUnavailable, LlmUsage
from capstan.generator.options import AnswerOptions
from capstan.generator.packing import select, widen
from capstan.generator.passages import Passage
from capstan.generator.pieces import Piece
from capstan.generator.prompt import messages, room
from capstan.generator.settings import GeneratorSettings
from capstan.generator.stopwatch import Stopwatch
from capstan.generator.text import best_quote, words
from capstan.generator.verify import Verifier

log = logging.getLogger("capstan.generator.answer")

ABSTENTION = "I could not find an answer to this in the documents."
_UNAVAILABLE = "The language model is not available at the moment; this is what the documents say:"
_ENOUGH_WORDS = 8
"""Content words of a strict answer of which most was left out, below which an extract follows."""
_UNSUPPORTED = "little of what the language model wrote is supported by the passages"
_SUGGESTIONS = 3
_GIVE_UP_AFTER = 3
"""Unsupported sentences in a row after which a strict answer ends: the model has left its evidence."""


class Mode(StrEnum):
    """How an answer came about."""

    GENERATED = "generated"
    EXTRACTIVE = "extractive"
    ABSTAINED = "abstained"


@dataclass
class Answer:
    """An answer in the making; complete when its stream has ended.

    `question` stands on its own: it is what was searched for. `withheld` counts passages that were left out because
    they speak to the language model. `written` is what the language model said, before anything was checked.
    """

    question: str
    arm: str
    llm: str
    options: AnswerOptions
    evidence: Evidence
    passages: list[Passage]
    binder: CitationBinder
    embed: Embed
    withheld: int = 0
    written: str = ""
    mode: Mode = Mode.GENERATED
    note: str | None = None
    usage: LlmUsage = field(default_factory=LlmUsage)
    condensing: LlmUsage = field(default_factory=LlmUsage)
    timings_ms: dict[str, float] = field(default_factory=dict)
    timed: Stopwatch = field(default_factory=Stopwatch)

    @property
    def grounded(self) -> float | None:
        """Share of the answer's sentences that a passage supports; None without such sentences."""
        checked = self.binder.checked
        return round(self.binder.supported / len(checked), 3) if checked else None

    @property
    def suggestions(self) -> list[Passage]:
        """Of an abstention: the closest passage of each of the closest documents. They are no citations."""
        if self.mode is not Mode.ABSTAINED:
            return []
        closest = {p.document_id: p for p in reversed(self.evidence.passages)}
        return list(reversed(closest.values()))[:_SUGGESTIONS]


class Answerer:
    """Answers questions for a tenant. Time and randomness are handed in."""

    def __init__(
        self,
        finder: EvidenceFinder,
        llm: Llm,
        settings: GeneratorSettings,
        *,
        embed: Callable[[Headers], Embed],
        nonce: Callable[[], str] = lambda: secrets.token_hex(6),
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._finder = finder
        self._llm = llm
        self._settings = settings
        self._embed = embed
        self._condenser = ModelCondenser(llm, timeout_s=settings.condense_timeout_s)
        self._nonce = nonce
        self._now = now

    async def prepare(
        self, turns: Sequence[Turn], arm: str, llm: str, options: AnswerOptions, answer_tokens: int, headers: Headers
    ) -> Answer:
        """Find and pack the evidence; `options` is complete. Raises `ApiError` when the retriever is down."""
        settings = self._settings
        started = self._now()
        timed = Stopwatch(self._now)
        condensing = LlmUsage()
        by_model = settings.condense == "model"
        with timed("condense"), span("condense", by=settings.condense, turns=len(turns)):
            question = await self._condenser(turns, headers, condensing) if by_model else condense(turns)
        evidence = await self._finder.find(question, options, headers, timed)
        trusted = [p for p in evidence.passages if not speaks_to_the_model(f"{p.place}\n{p.text}")]
        withheld = len(evidence.passages) - len(trusted)
        if withheld:
            hostile = sorted({p.document_id for p in evidence.passages} - {p.document_id for p in trusted})
            log.warning("passages give orders to the language model and are left out", extra={"documents": hostile})
        evidence = replace(evidence, passages=trusted)
        with timed("pack"), span("pack", passages=len(trusted)):
            passages = await self._pack(question, trusted, options, answer_tokens, headers)
        embed = self._embed(headers)
        verifier = Verifier(passages, embed, min_support=settings.min_support, min_similarity=settings.min_similarity)
        binder = CitationBinder(passages, verifier, strict=settings.grounding == "strict")
        answer = Answer(
            question, arm, llm, options, evidence, passages, binder, embed, withheld, condensing=condensing, timed=timed
        )
        answer.timings_ms["evidence"] = self._since(started)
        if not passages or (evidence.best is not None and evidence.best < (options.min_relevance or 0)):
            answer.mode = Mode.ABSTAINED
        elif options.extractive:
            answer.mode = Mode.EXTRACTIVE
        return answer

    async def stream(self, answer: Answer, sampling: dict[str, Any], headers: Headers) -> AsyncGenerator[str, None]:
        """The answer's text, as it may be shown. Raises `LlmBroke` when the model fails midway."""
        started = self._now()
        async with aclosing(self._text(answer, sampling, headers)) as pieces:
            async for piece in pieces:
                if piece:
                    answer.timings_ms.setdefault("first_text", self._since(started))
                    yield piece
        answer.timings_ms["answer"] = self._since(started)

    async def _text(self, answer: Answer, sampling: dict[str, Any], headers: Headers) -> AsyncGenerator[str, None]:
        binder = answer.binder
        if answer.mode is Mode.GENERATED:
            try:
                async with aclosing(self._generate(answer, sampling, headers)) as pieces:
                    async for piece in pieces:
                        yield piece
            except LlmUnavailable as error:
                log.warning("answering without the language model", extra={"error": str(error)})
                answer.mode, answer.note = Mode.EXTRACTIVE, str(error)
                yield binder.say(_UNAVAILABLE)
            else:
                if not self._says_little(binder):
                    return
                # Little of what the model wrote is in the passages: show what is.
                answer.note = _UNSUPPORTED
                answer.mode = Mode.GENERATED if binder.text else Mode.EXTRACTIVE
        if answer.mode is not Mode.ABSTAINED:
            extracted = await self._extract(answer)
            for piece in extracted:
                yield piece
            if extracted or binder.citations:
                return
            answer.mode = Mode.ABSTAINED
        yield binder.say(("\n\n" if binder.text else "") + self._abstention(answer))

    async def _generate(self, answer: Answer, sampling: dict[str, Any], headers: Headers) -> AsyncGenerator[str, None]:
        prompt = messages(
            answer.passages, answer.question, nonce=self._nonce, prompt=answer.options.prompt or "default"
        )
        binder, timed = answer.binder, answer.timed
        with span("generate", passages=len(answer.passages)):
            stream = self._llm.stream(prompt, sampling, headers, answer.usage, answer.llm)
            async with aclosing(stream) as deltas:
                while True:
                    with timed("generate"):
                        delta = await anext(deltas, None)
                    answer.written += delta or ""
                    with timed("verify"):
                        piece = await (binder.finish() if delta is None else binder.feed(delta))
                    yield piece
                    if delta is None or (binder.strict and binder.unsupported_in_a_row >= _GIVE_UP_AFTER):
                        return

    async def _extract(self, answer: Answer) -> list[str]:
        """The passages' own words that answer the question; each passage is a paragraph. Empty when there are none."""
        binder = answer.binder
        best = await best_pieces(answer.question, answer.passages, answer.embed, least=self._settings.min_extract)
        found = [scored.piece for scored in best if scored.piece.code or scored.piece.text not in binder.text]
        shown = [binder.say("\n\nThe documents say:")] if found and answer.mode is Mode.GENERATED else []
        before: Piece | None = None
        for piece in found:
            passage = answer.passages[piece.number - 1]
            same = before is not None and before.number == piece.number
            gap = "\n\n" if not same else "\n" if piece.is_item or (before and before.is_item) else " "
            before = piece
            if piece.text:
                quote = piece.text if piece.text in passage.text else best_quote(words(piece.text), passage.text)
                shown.append(binder.quote(piece.number, piece.text, quote=quote, gap=gap))
            if piece.code:
                shown.append(binder.quote(piece.number, piece.code, quote=piece.code, gap="\n", is_code=True))
        return shown

    @staticmethod
    def _says_little(binder: CitationBinder) -> bool:
        """Whether nothing is supported; for a strict answer also: most was left out, and what is left is short."""
        if not binder.citations or not binder.strict:
            return not binder.citations
        shown = sum(len(words(sentence.text)) for sentence in binder.checked if sentence.supported)
        return shown < _ENOUGH_WORDS and 2 * binder.supported < len(binder.checked)

    @staticmethod
    def _abstention(answer: Answer) -> str:
        titles = dict.fromkeys(one_line(p.title or p.document_id) for p in answer.suggestions)
        return f"{ABSTENTION} The closest documents: {'; '.join(titles)}." if titles else ABSTENTION

    async def _pack(
        self, question: str, ranked: list[Passage], options: AnswerOptions, answer_tokens: int, headers: Headers
    ) -> list[Passage]:
        settings = self._settings
        left = room(
            question,
            prompt=options.prompt or "default",
            context_tokens=settings.context_tokens,
            answer_tokens=answer_tokens,
        )
        budget = min(left, settings.evidence_tokens)
        passages = select(
            ranked,
            budget=budget,
            most=options.passages or settings.passages,
            per_document=options.per_document or settings.per_document,
        )
        if ranked and not passages:
            message = "question and answer leave no room for evidence; shorten the question or lower max_tokens"
            raise ApiError(400, "question_too_long", message, param="messages")
        if not (reach := options.neighbours or 0):
            return passages
        beside = await asyncio.gather(*(self._finder.neighbours(p, reach, headers) for p in passages))
        trusted = [[chunk for chunk in chunks if not speaks_to_the_model(chunk.text)] for chunks in beside]
        return widen(passages, trusted, reach=reach, budget=budget)

    def _since(self, started: float) -> float:
        return round((self._now() - started) * 1e3, 1)
