"""Queries with the passage that answers them, from the corpus alone.

Four kinds, each a way in which a document says what a reader may look for:

`heading`   the heading of a section, as a question -> the section
`title`     the title of a document (a manual page's NAME line) -> its first section with content
`task`      a first sentence, or a list entry, that begins with a verb ("Return the size of path") -> its section
`cloze`     a sentence (inverse cloze task; Lee et al. 2019) -> the passage that it was taken from

The query's own words are taken out of the passage in about half of the cases, so that finding them again is not
enough; in the other half they stay, because at work a passage does contain what was asked for.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from capstan.jobs.reranker.phrasing import about, ask, instruction, is_question, typed
from capstan.jobs.reranker.recipe import Source

_SENTENCE = re.compile(r"(?<=[a-z0-9)\]][.!?])\s+(?=[A-Z])")
_ENTRY = re.compile(r"^- (?P<term>[^\n:]{1,60}): (?P<text>[A-Z][^\n]{20,})", re.MULTILINE)
_TITLE_PREFIX = re.compile(r"^(?:[^(]{1,40}\([0-9][0-9a-z]*\)|Linux kernel|PostgreSQL|SQLite|Python|Debian|Perl): ")
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_PASSAGE_CHARACTERS = 1000
_LEAST_CHARACTERS = 60
_GENERIC_IN = 4
_GENERIC = frozenset(
    ["overview", "introduction", "background", "conclusion", "conventions", "rationale", "motivation", "usage"]
)


@dataclass(frozen=True, slots=True)
class Example:
    """A query and the passage that answers it; `passage` begins with its place, as the generator sends it."""

    kind: str
    query: str
    document: str
    passage: str


def passage_of(place: Iterable[str], text: str) -> str:
    """A passage as the generator sends it to the reranker: title and heading path, then the text."""
    return f"{' > '.join(dict.fromkeys(part for part in place if part))}\n{text}"


def normal(question: str) -> str:
    """A question without case, punctuation and spacing, to compare it with another."""
    return " ".join(re.findall(r"[a-z0-9_]+", question.lower()))


class QueryMaker:
    """Makes examples of the documents of one source."""

    def __init__(self, source: Source, documents: Sequence[dict[str, Any]], rng: random.Random) -> None:
        self._source = source
        self._documents = [d for d in documents if d["source"].startswith(source.prefix)]
        self._rng = rng
        seen = Counter(
            heading.lower()
            for d in self._documents
            for heading in {s["heading"][-1] for s in d["sections"] if s["heading"]}
        )
        self._generic = {heading for heading, count in seen.items() if count >= _GENERIC_IN} | _GENERIC

    def examples(self, forbidden: frozenset[str]) -> list[Example]:
        """At most `source.queries` examples, none of whose queries is (normalized) in `forbidden`."""
        by_kind: dict[str, list[Example]] = {}
        seen = set(forbidden)
        for document in self._rng.sample(self._documents, len(self._documents)):
            for example, topic in self._of(document):
                keys = {normal(example.query), normal(topic)}
                if keys & seen or len(keys - {""}) == 0:
                    continue
                seen.add(normal(example.query))
                by_kind.setdefault(example.kind, []).append(example)
        return self._mixed(by_kind)

    def _mixed(self, by_kind: dict[str, list[Example]]) -> list[Example]:
        """Questions first, then the other kinds in turn, until there are enough."""
        chosen = by_kind.pop("question", [])[: self._source.queries]
        pools = [self._rng.sample(pool, len(pool)) for _, pool in sorted(by_kind.items())]
        while len(chosen) < self._source.queries and any(pools):
            for pool in pools:
                if pool and len(chosen) < self._source.queries:
                    chosen.append(pool.pop())
        return chosen

    def _of(self, document: dict[str, Any]) -> Iterator[tuple[Example, str]]:
        """Examples of one document, each with the bare phrase that it was made of."""
        yield from self._title(document)
        for section in document["sections"]:
            if len(section["text"]) >= _LEAST_CHARACTERS:
                yield from self._heading(document, section)
                yield from self._tasks(document, section)
                yield from self._cloze(document, section)

    def _title(self, document: dict[str, Any]) -> Iterator[tuple[Example, str]]:
        title = document["title"]
        topic = _TITLE_PREFIX.sub("", title)
        topic = topic.partition(" — ")[2] or topic
        if title.endswith(": examples") or len(topic.split()) < 2:
            return
        for section in document["sections"]:
            if len(section["text"]) >= 2 * _LEAST_CHARACTERS and (section["heading"] or ["x"])[-1] != "SYNOPSIS":
                name = title.removesuffix(topic).rstrip(" :—") if topic != title else ""
                place = (title if self._half() else name, *section["heading"])
                yield self._example("title", topic, document, place, section["text"])
                return

    def _heading(self, document: dict[str, Any], section: dict[str, Any]) -> Iterator[tuple[Example, str]]:
        if not section["heading"]:
            return
        *parents, heading = section["heading"]
        if heading.lower() in self._generic or len(heading) < 8 or len(heading.split()) > 20:
            return
        asks = is_question(heading)
        if not asks and len(heading.split()) < 2 and not self._half():
            return
        place = (document["title"], *parents, heading) if self._half() else (document["title"], *parents)
        for _ in range(2 if asks else 1):
            yield self._example("question" if asks else "heading", heading, document, place, section["text"])

    def _tasks(self, document: dict[str, Any], section: dict[str, Any]) -> Iterator[tuple[Example, str]]:
        place = (document["title"], *section["heading"])
        text = section["text"]
        prose = _FENCE.sub("", text[:1500]).strip()
        first = _SENTENCE.split(prose.split("\n\n")[0])[0]
        if instruction(first) and len(text) > len(first) + _LEAST_CHARACTERS:
            yield self._example("task", first, document, place, self._without(text, first))
        entries = list(_ENTRY.finditer(text))
        for entry in self._rng.sample(entries, min(2, len(entries))):
            first = _SENTENCE.split(entry["text"])[0]
            if instruction(first):
                near = _window(text, entry.start())
                yield self._example("task", first, document, place, self._without(near, first))

    def _cloze(self, document: dict[str, Any], section: dict[str, Any]) -> Iterator[tuple[Example, str]]:
        prose = _FENCE.sub("\n\n", section["text"][:6000])
        sentences = [s for part in prose.split("\n\n") for s in _SENTENCE.split(part) if 40 <= len(s) <= 160]
        if len(sentences) < 3 or not self._half():
            return
        sentence = self._rng.choice(sentences)
        near = _window(section["text"], section["text"].find(sentence))
        place = (document["title"], *section["heading"])
        text = near.replace(sentence, "") if self._rng.random() < 0.8 else near
        yield Example("cloze", typed(sentence, self._rng), document["id"], passage_of(place, text)), sentence

    def _example(
        self, kind: str, phrase: str, document: dict[str, Any], place: tuple[str, ...], text: str
    ) -> tuple[Example, str]:
        task = instruction(phrase)
        product = self._source.product
        if is_question(phrase):
            query = phrase
        else:
            query = ask(task, product, self._rng) if task else about(phrase.rstrip("."), product, self._rng)
        passage = passage_of(place, _window(text, 0))
        return Example(kind, typed(query, self._rng), document["id"], passage), phrase

    def _without(self, text: str, sentence: str) -> str:
        return text.replace(sentence, "", 1).strip() if self._half() else text

    def _half(self) -> bool:
        return self._rng.random() < 0.5


def _window(text: str, position: int) -> str:
    """About a chunk of `text` that begins at the paragraph before `position`."""
    start = text.rfind("\n\n", 0, max(position, 0) + 1)
    start = 0 if position < _PASSAGE_CHARACTERS // 2 else max(start, position - _PASSAGE_CHARACTERS // 2)
    return text[start : start + _PASSAGE_CHARACTERS].strip()
