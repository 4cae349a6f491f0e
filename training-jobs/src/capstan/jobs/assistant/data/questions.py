"""Questions that a document answers, each with the passage that does and an answer in the passage's own words."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from capstan.jobs.assistant.data.aws import command_of, title_of
from capstan.jobs.assistant.data.drafts import Document, dice
from capstan.jobs.assistant.data.manual import ENTRY, entry_of, first_sentence, is_whole, sentences
from capstan.jobs.assistant.data.option import page_name
from capstan.jobs.assistant.data.passages import passages
from capstan.jobs.assistant.data.prompt import Passage
from capstan.jobs.evaluate.verifier import content_words
from capstan.jobs.reranker.phrasing import about, ask, instruction, is_question, typed

_PRODUCTS = {
    "perl-doc": "Perl",
    "python3": "Python",
    "sqlite3-doc": "SQLite",
    "git-doc": "Git",
    "postgresql-doc": "PostgreSQL",
    "manpages": "Linux",
    "linux-doc": "the Linux kernel",
    "awscli": "the AWS CLI",
    "debian-faq": "Debian",
}
_DEPENDENT = re.compile(
    r"^(?:this|these|it|that|those|they|such|here|however|note|also|thus|see|if so|but"
    r"|for (?:an? )?(?:examples?|explanation))\b",
    re.I,
)
_ASIDE = re.compile(r"^(?:see|note|for (?:more|example))\b", re.I)
_GENERIC = frozenset(
    content_words(
        """overview introduction background notes description examples example usage options synopsis name see also bugs
        attributes configuration parameters arguments return value errors history compatibility standards versions""",
    )
)
_CODE_LINE = re.compile(r"\s*```\w*\n([^\n`]{4,70})\n```")
_TERM = re.compile(r"^(?![A-Z][a-z]+$)[\w.:$@%-]+(?:\(\))?$")
"""Of one word, and not a plain one."""
_TERMS_OF_A_PAGE = 4
_MOST_WORDS = 42


@dataclass(frozen=True, slots=True)
class Question:
    """`answer` is sentences without markers, all of them from `passage`. `topic` is the bare phrase asked about."""

    text: str
    topic: str
    passage: Passage
    answer: tuple[str, ...]
    product: str


def questions(document: Document, seed: int) -> Iterator[Question]:
    """The questions that can be made of a document."""
    rng = dice(seed, document["id"], "questions")
    product = next((p for start, p in _PRODUCTS.items() if document["source"].startswith(start)), "")
    found = list(passages(document))
    if document["source"] == "awscli":
        yield from _examples(document, found, product, rng)
        return
    terms = Counter(m["term"] for passage in found for m in ENTRY.finditer(passage.text))
    for n, passage in enumerate(found):
        if n == 0 or passage.place != found[n - 1].place:
            yield from _of_heading(document, passage, product, rng)
        yield from _of_entries(document, passage, terms, product, rng)


def _of_heading(document: Document, passage: Passage, product: str, rng: random.Random) -> Iterator[Question]:
    """A heading as a question; the section's first sentences answer it."""
    _, heading, topic = passage.place.rpartition(" > ")
    if not heading:
        topic = page_name(document["title"])
    words = set(content_words(topic))
    if not words or words <= _GENERIC or len(topic.split()) > 16:
        return
    answer = _opening(passage.text, rng)
    if not answer or not words & set(content_words(" ".join(answer))):
        return
    task = instruction(topic)
    text = topic if is_question(topic) else ask(task, product, rng) if task else about(topic, product, rng)
    yield Question(typed(text, rng), topic, passage, answer, product)


def _of_entries(
    document: Document, passage: Passage, terms: Counter[str], product: str, rng: random.Random
) -> Iterator[Question]:
    """Entries of definition lists, asked about in either direction; `terms` counts those of the page."""
    found = [(m["term"], first_sentence(m["text"])) for m in ENTRY.finditer(passage.text)]
    entries = [(term, sentence) for term, sentence in found if terms[term] == 1]
    page = page_name(document["title"])
    for term, sentence in rng.sample(entries, min(_TERMS_OF_A_PAGE, len(entries))):
        name = _name(term)
        if sentence is None or not _TERM.match(name) or len(name) < 3 or len(sentence) > 200:
            continue
        task = instruction(sentence)
        if name.startswith("-") and task:
            text = rng.choice(
                ("How do I {} with {}?", "Which option of {1} is there to {0}?", "With {1}, how can I {0}?")
            )
            asked = text.format(task, page)
            yield Question(typed(asked, rng), sentence, passage, (f"Use `{name}` to {task}.",), product)
        elif rng.random() < 0.5:
            text = rng.choice(("What does {} mean in {}?", "What is {} in {}?", "In {1}, what is {0} for?"))
            yield Question(text.format(name, page), name, passage, (f"`{name}`: {sentence}.",), product)


def _name(term: str) -> str:
    """What a term is called: of an option the long name, "" for several options together."""
    if not term.startswith("-"):
        return term.split(", ")[-1].split("=")[0].split("[")[0].split(" ")[0]
    entry = entry_of(term, "")
    return entry.names[0] if entry else ""


def _examples(document: Document, found: list[Passage], product: str, rng: random.Random) -> Iterator[Question]:
    """Titles of aws examples; the answer is the operation and its options, as far as they fit in a sentence."""
    headings = {passage.place: passage for passage in reversed(found)}
    for section in document["sections"]:
        task, command = title_of(section["heading"]), command_of(section["text"])
        passage = next(
            (p for place, p in headings.items() if section["heading"] and place.endswith(section["heading"][-1])), None
        )
        if task is None or command is None or passage is None:
            continue
        words = command.split(" --")[0]
        options = list(dict.fromkeys(re.findall(r"(?<= )--[a-z][a-z0-9-]+", command)))
        if (
            words not in " ".join(passage.text.split())
            or len(options) > 3
            or any(o not in passage.text for o in options)
        ):
            continue
        tail = f" with {_and([f'`{option}`' for option in options])}" if options else ""
        yield Question(typed(ask(task, product, rng), rng), task, passage, (f"Use `{words}`{tail}.",), product)


def _opening(text: str, rng: random.Random) -> tuple[str, ...]:
    """The first sentence or two of a passage as an answer; empty where they do not stand by themselves."""
    paragraph = text.split("\n\n")[0]
    if "\n" in paragraph or paragraph.startswith(("```", "- ", "|", "1. ")):
        return ()
    if paragraph.endswith(":"):
        code = _CODE_LINE.match(text[len(paragraph) :])
        lead = sentences(paragraph)[-1]
        return (
            (f"{lead} `{code[1].strip()}`",) if code and len(lead.split()) >= 4 and not _DEPENDENT.match(lead) else ()
        )
    found = sentences(paragraph)
    kept = [
        s
        for s in found[:2]
        if 5 <= len(s.split()) <= _MOST_WORDS and s.endswith(".") and "[" not in s and "http" not in s and is_whole(s)
    ]
    if not kept or kept[0] != found[0] or _DEPENDENT.match(kept[0]):
        return ()
    short = len(kept) == 2 and sum(len(s.split()) for s in kept) <= _MOST_WORDS
    both = short and not _ASIDE.match(kept[1]) and rng.random() < 0.5
    return tuple(kept) if both else (kept[0],)


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
