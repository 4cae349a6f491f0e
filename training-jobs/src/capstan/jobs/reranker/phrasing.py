"""Turns the phrases of documentation into what people ask.

Documentation says "Return the size of path", "To create a VPC", "Reading files" or "create a pipe"; a reader asks
"How do I get the size of path in Python?". A phrase that begins with a verb in one of those forms becomes an
instruction ("create a pipe"), and an instruction becomes a question by a template.
"""

import random
import re
from pathlib import Path

_VERBS = Path(__file__).with_name("verbs.txt").read_text(encoding="utf-8").split()
_SAID = {"return": "get", "give": "get", "obtain": "get", "retrieve": "get", "yield": "get"}
_NOTES = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]|``|[\"`*]")


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def _gerunds(verb: str) -> list[str]:
    if verb.endswith("e") and not verb.endswith("ee"):
        return [verb[:-1] + "ing"]
    return [verb + "ing", verb + verb[-1] + "ing"]


_INSTRUCTION = {verb: verb for verb in _VERBS} | {_third_person(verb): verb for verb in _VERBS}
_GERUND = {gerund: verb for verb in _VERBS for gerund in _gerunds(verb)}

_QUESTION_WORD = re.compile(
    r"(how|what|why|when|where|which|who|can|do|does|is|are|should|will|must|could)('?s|’s)?\b", re.IGNORECASE
)


def is_question(phrase: str) -> bool:
    """Whether a heading is a question already."""
    words = len(phrase.split())
    return 4 <= words <= 24 and (phrase.endswith("?") or bool(_QUESTION_WORD.match(phrase)))


def instruction(phrase: str) -> str | None:
    """`phrase` as an instruction ("create a pipe"), or None if it does not begin with a verb that is known."""
    text = _NOTES.sub("", phrase).strip().rstrip(".:;,")
    text = re.split(r"(?<=[a-z])[.;:] ", text)[0]
    if text.lower().startswith("to "):  # "To list files, use ls": what is done about it is no part of the task
        text = text[3:].partition(",")[0]
    first, _, rest = text.partition(" ")
    verb = _INSTRUCTION.get(first.lower()) or _GERUND.get(first.lower())
    if verb is None or not rest or not 2 <= len(rest.split()) + 1 <= 18:
        return None
    return f"{_SAID.get(verb, verb)} {rest}"


_ASKS = (
    "How do I {}?",
    "How do I {}?",
    "How can I {}?",
    "How can I {}?",
    "How to {}",
    "What is the way to {}?",
    "Is there a way to {}?",
    "I want to {}",
    "{}",
    "Can I {}?",
)
_TOPICS = ("{}", "{}", "What is {}?", "How does {} work?", "How do I use {}?", "Tell me about {}", "What about {}?")


def ask(task: str, product: str, rng: random.Random) -> str:
    """A question about an instruction, in one of the ways people ask; half of them name the product."""
    return _named(rng.choice(_ASKS).format(task), product, rng)


def about(topic: str, product: str, rng: random.Random) -> str:
    """A question about a topic that is no instruction."""
    return _named(rng.choice(_TOPICS).format(topic), product, rng)


def _named(question: str, product: str, rng: random.Random) -> str:
    if product and product.lower() not in question.lower() and rng.random() < 0.6:
        if rng.random() < 0.5 and question.endswith("?"):
            question = f"In {product}, {question[0].lower()}{question[1:]}"
        else:
            stem, mark = (question[:-1], "?") if question.endswith("?") else (question, "")
            question = f"{stem} in {product}{mark}"
    return question


def typed(question: str, rng: random.Random) -> str:
    """As it may be typed: some in lower case, some without the question mark."""
    if rng.random() < 0.35:
        question = question.rstrip("?")
    if rng.random() < 0.35:
        question = question.lower()
    return question
