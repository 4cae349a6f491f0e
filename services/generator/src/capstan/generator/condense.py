"""Makes a follow-up question stand on its own, so that it can be searched for.

By rule: a question that refers back ("it", "that command") or says too little ("And on Windows?") is given the content
words of the question before it. By a language model: one call, whose result is checked and replaced by the rule's if
it does not stand the check.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from capstan.generator.llm import Llm, LlmBroke, LlmRejected, LlmUnavailable, LlmUsage
from capstan.generator.text import words

log = logging.getLogger("capstan.generator.condense")

_MOST_CARRIED = 10
_MIN_OWN_WORDS = 3
"""A question with fewer content words of its own, after another question, is a follow-up."""
_MAX_CHARS = 400
_MOST_TURNS = 6

_REFERS = re.compile(
    r"\b(?:it|its|they|them|their|these|those|this|that|the\s+(?:same|former|latter|other)|one|ones|there|above)\b",
    re.IGNORECASE,
)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|would)\s+(?:it|there)\s+(?:\w+\s+)?(?:possible|safe|ok|okay|better|necessary|best|a\s+way|any\s+way|an?\b|any\b)"
    r"|\b(?:are|is)\s+there\b"
    r"|\b(?:so|such|means?|says?|know|sure|ensure|check|file|command|function|option|way|error|something|anything|program|script)\s+that\b"
    r"|\b(?:which|each|every|no|any|some|at\s+least|more\s+than|only)\s+one\b"
    r"|\bthis\s+(?:error|message|warning)\s*:",
    re.IGNORECASE,
)
_ELLIPSIS = re.compile(
    r"^\s*(?:and|but|or|so|also|then|instead|(?:what|how)\s+about|what\s+(?:if|else)|why(?:\s+not)?\s*\??$)\b",
    re.IGNORECASE,
)
_CHAT = frozenset(
    words("about again detail else example explain give know mean more ok okay please show tell thank thanks yes")
)
_TOKEN = re.compile(r"[^\s,;:!?\"“”()]+")
_CODE = re.compile(r"`([^`\n]{2,40})`")

_SYSTEM = (
    "Rewrite the user's last question so that it can be understood without the conversation. "
    "Keep its meaning and its language. Answer with the question alone."
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said before: `role` is `user` or `assistant`."""

    role: str
    text: str


def condense(turns: Sequence[Turn]) -> str:
    """The last turn's question with what it needs of the turns before it. The last turn is the user's."""
    topic = ""
    spoken: list[str] = []
    standalone = ""
    for turn in turns:
        if turn.role != "user":
            spoken = list(dict.fromkeys(_CODE.findall(turn.text)))[:2]
            continue
        standalone = _standing_alone(turn.text, topic, spoken)
        topic = standalone
        spoken = []
    return standalone


def _standing_alone(question: str, topic: str, spoken: Sequence[str]) -> str:
    if not topic or not is_follow_up(question):
        return question
    own = set(words(question))
    carried: list[str] = []
    for token in [*_TOKEN.findall(topic), *(spoken if _REFERS.search(question) else ())]:
        token = token.rstrip(".")
        needed = set(words(token)) - own - _CHAT
        if needed:
            carried.append(token)
            own |= needed
    return f"{question} ({' '.join(carried[:_MOST_CARRIED])})" if carried else question


def is_follow_up(question: str) -> bool:
    """Whether a question, asked after another, needs that other one to be understood."""
    own = [word for word in dict.fromkeys(words(question)) if word not in _CHAT]
    refers = _REFERS.search(_EXPLETIVE.sub(" ", question)) is not None
    return refers or len(own) < _MIN_OWN_WORDS - 1 or (_ELLIPSIS.match(question) is not None and len(own) < 5)


class ModelCondenser:
    """Asks a language model, and falls back to the rule."""

    def __init__(
        self,
        llm: Llm,
        *,
        timeout_s: float,
        within: Callable[[Awaitable[str], float], Awaitable[str]] = asyncio.wait_for,
    ) -> None:
        self._llm = llm
        self._timeout_s = timeout_s
        self._within = within

    async def __call__(self, turns: Sequence[Turn], headers: dict[str, str], usage: LlmUsage) -> str:
        """The standalone question; fills in `usage`."""
        if len(turns) < 2:
            return condense(turns)
        try:
            said = await self._within(self._ask(turns, headers, usage), self._timeout_s)
        except (LlmUnavailable, LlmBroke, LlmRejected, TimeoutError) as error:
            log.warning("the question is condensed by rule", extra={"error": repr(error)})
            said = ""
        question = said.strip().strip('"“”')
        return question if _is_plausible(question, turns) else condense(turns)

    async def _ask(self, turns: Sequence[Turn], headers: dict[str, str], usage: LlmUsage) -> str:
        lines = "\n".join(f"{turn.role}: {turn.text[:_MAX_CHARS]}" for turn in turns[-_MOST_TURNS:])
        prompt: list[dict[str, Any]] = [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": f"{lines}\n\nThe last question, on its own:"},
        ]
        sampling = {"temperature": 0, "max_tokens": 80}
        async with aclosing(self._llm.stream(prompt, sampling, headers, usage)) as pieces:
            return "".join([piece async for piece in pieces])


def _is_plausible(question: str, turns: Sequence[Turn]) -> bool:
    """Whether a model's rewriting is one bounded line, about what was talked about, with what the user just asked."""
    said = set(words(" ".join(turn.text for turn in turns)))
    asked = set(words(turns[-1].text)) - _CHAT
    own = set(words(question))
    if not own or "\n" in question or len(question) > _MAX_CHARS:
        return False
    return len(own & said) / len(own) >= 0.6 and (not asked or len(own & asked) / len(asked) >= 0.5)
