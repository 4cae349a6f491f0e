"""Citation precision and recall of answers, sentence by sentence (ALCE, https://arxiv.org/abs/2305.14627).

- recall: of the sentences that say something, those whose cited passages together support them;
- precision: of the citations, those whose sentence is supported and whose passage supports it alone or is
  needed: without it the others do not.

The sentences are found anew in the text that the user got; nothing of what the service thinks of its own
sentences is used. A citation belongs to the sentence in which or behind which its marker stands. A block of
code is one sentence. Sentences without a marker are read with the next marker of their paragraph, as a reader
does, and each is judged against it by itself; `recall_own_marker` counts only those with a marker of their own.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from capstan.jobs.evaluate.asking import Answer
from capstan.jobs.evaluate.ratios import ratio
from capstan.jobs.evaluate.verifier import Verdict, Verifier, attributable

_BLOCK = re.compile(r"^```[^\n]*\n(.*?)(?:^```(?=\s|\Z)|\Z)", re.MULTILINE | re.DOTALL)
_BEHIND = re.compile(r"\s*\[\d{1,3}\]")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_END = re.compile(r"(?<=[.!?])[\"')\]”’]*(?:[ \t]*\[\d{1,3}\])*(?=\s|\Z)|\n+")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|fig|approx|resp)\.$", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_FRAME = "The documents say:"
"""What the service puts before a quotation. It claims nothing about the world."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer without its markers, and the numbers of the passages it cites.

    `borrowed` are citations whose marker stands behind a later sentence of the paragraph.
    """

    text: str
    cited: tuple[int, ...]
    borrowed: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A sentence with the verifier's verdicts: of all its passages together, and for each whether it counts."""

    sentence: Sentence
    together: Verdict
    precise: dict[int, bool]
    alone: dict[int, Verdict]


def sentences(answer: Answer) -> list[Sentence]:
    """The sentences that say something, in order. A line that ends with a colon only leads to what it cites."""
    markers = _markers(answer)
    found: list[Sentence] = []
    for paragraph in _paragraphs(answer.text, markers):
        later: tuple[int, ...] = ()
        read: list[Sentence] = []
        for start, end, code in reversed(paragraph):
            inside = [m for m in markers if start <= m.start < end]
            own = tuple(dict.fromkeys(m.number for m in inside))
            later = own or later
            text = code if code is not None else _without(answer.text, start, end, inside)
            says = bool(code.strip()) if code is not None else attributable(text)
            if says and (later or not text.endswith(":")):
                read.append(Sentence(text, own or later, borrowed=bool(later and not own)))
        found += reversed(read)
    return found


def judge(answer: Answer, verifier: Verifier) -> list[Judged]:
    """Every sentence of an answer, judged."""
    texts = {int(source["id"]): passage_text(source) for source in answer.passages}
    return [_judge(sentence, texts, verifier) for sentence in sentences(answer)]


def passage_text(source: dict[str, Any]) -> str:
    """What a reader of a passage sees: its place and its text."""
    place = " > ".join(dict.fromkeys((source.get("title") or "", *(source.get("heading") or ()))))
    return f"{place}\n{source['text']}"


def score(answers: Iterable[tuple[Answer, list[Judged]]], *, seed: int) -> dict[str, Any]:
    """Precision, recall and what they are made of. Answers that failed or abstained have no sentences to judge."""
    rows = list(answers)
    failed = [a for a, _ in rows if a.error is not None]
    abstained = [a for a, _ in rows if a.error is None and a.abstained]
    scored = [(a, judged) for a, judged in rows if a.error is None and not a.abstained]
    modes = sorted({str(a.details.get("mode")) for a, _ in scored})
    return {
        "n": len(rows),
        "n_scored": len(scored),
        "n_failed": len(failed),
        "n_abstained": len(abstained),
        "n_without_sentences": sum(not judged for _, judged in scored),
        **_shares([judged for _, judged in scored], seed),
        "by_mode": {
            mode: {
                "n": sum(str(a.details.get("mode")) == mode for a, _ in scored),
                **_shares([judged for a, judged in scored if str(a.details.get("mode")) == mode], seed),
            }
            for mode in modes
        },
    }


def _shares(answers: Sequence[list[Judged]], seed: int) -> dict[str, Any]:
    recall = [(sum(j.together.supported for j in judged), len(judged)) for judged in answers]
    own = [(sum(j.together.supported and not j.sentence.borrowed for j in judged), len(judged)) for judged in answers]
    precision = [
        (sum(sum(j.precise.values()) for j in judged), sum(len(j.precise) for j in judged)) for judged in answers
    ]
    return {
        "recall": ratio(recall, seed=seed).as_dict(),
        "precision": ratio(precision, seed=seed).as_dict(),
        "recall_own_marker": ratio(own, seed=seed).as_dict(),
        "uncited_sentences": sum(not j.sentence.cited for judged in answers for j in judged),
    }


def _judge(sentence: Sentence, texts: dict[int, str], verifier: Verifier) -> Judged:
    known = [number for number in sentence.cited if number in texts]
    together = verifier.judge(sentence.text, [texts[number] for number in known])
    if sentence.borrowed:  # its citations are judged where they stand
        return Judged(sentence, together, {}, {})
    alone = {number: verifier.judge(sentence.text, [texts[number]]) for number in known}
    precise = dict.fromkeys(sentence.cited, False)  # a number that names no passage is a wrong citation
    if together.supported:
        for number in known:
            others = [texts[other] for other in known if other != number]
            precise[number] = alone[number].supported or not verifier.judge(sentence.text, others).supported
    return Judged(sentence, together, precise, alone)


@dataclass(frozen=True, slots=True)
class _Marker:
    number: int
    start: int
    end: int


def _markers(answer: Answer) -> list[_Marker]:
    """The citations by their offsets in the text, in order."""
    given = [a["url_citation"] for a in answer.annotations if a.get("type") == "url_citation"]
    found = [_Marker(int(c["id"]), int(c["start_index"]), int(c["end_index"])) for c in given]
    return sorted(found, key=lambda marker: marker.start)


_Span = tuple[int, int, str | None]
"""Start, end, and the code if it is a block of code."""


def _paragraphs(text: str, markers: Sequence[_Marker]) -> list[list[_Span]]:
    """The text's paragraphs as spans of sentences; a block of code, with the markers behind it, is one by itself."""
    found: list[list[_Span]] = []
    position = 0
    starts = {marker.start: marker.end for marker in markers}
    for block in _BLOCK.finditer(text):
        found += _prose(text, position, block.start(), starts)
        position = block.end()
        while (behind := _BEHIND.match(text, position)) and starts.get(behind.end() - len(behind.group().strip())):
            position = behind.end()
        found.append([(block.start(), position, block.group(1))])
    return found + _prose(text, position, len(text), starts)


def _prose(text: str, start: int, end: int, starts: dict[int, int]) -> list[list[_Span]]:
    found: list[list[_Span]] = []
    borders = [(m.start(), m.end()) for m in _PARAGRAPH.finditer(text, start, end)]
    for stop, following in [*borders, (end, end)]:
        if spans := _spans(text, start, stop, starts):
            found.append(spans)
        start = following
    return found


def _spans(text: str, start: int, stop: int, starts: dict[int, int]) -> list[_Span]:
    """Where each sentence begins and ends, the markers behind its full stop included."""
    spans: list[_Span] = []
    for match in _END.finditer(text, start, stop):
        end = match.end()
        if not match.group().startswith("\n") and _ABBREVIATION.search(text[start : match.start()]):
            continue
        for low, high in sorted(starts.items()):  # a marker never stands alone as a sentence
            if end <= low < stop and not text[end:low].strip():
                end = high
        if end > start:
            spans.append((start, end, None))
            start = end
    if text[start:stop].strip():
        spans.append((start, stop, None))
    return spans


def _without(text: str, start: int, end: int, markers: Sequence[_Marker]) -> str:
    """The sentence as a reader takes it: no markers, no bullet, nothing of the frame around quotations."""
    pieces: list[str] = []
    position = start
    for marker in markers:
        pieces.append(text[position : marker.start])
        position = marker.end
    pieces.append(text[position:end])
    return " ".join(_BULLET.sub("", "".join(pieces)).replace(_FRAME, "").split())
