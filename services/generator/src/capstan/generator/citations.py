"""Binds citations to passages while the answer streams.

The model's markers (`[1]`, `[1, 2]`, also cut in two by the stream) are taken out of the text. When a
sentence is complete, those that name a passage which supports it come back behind it; a sentence
without a supported marker gets the passage that supports it best, or none. So every marker that a
client sees names a passage that exists and holds most of the sentence's words.

A strict binder shows a sentence only when a passage supports it, and each sentence once.
"""

import re
from dataclasses import dataclass, field

from capstan.generator.evidence import Passage
from capstan.generator.text import best_quote, end_of_sentence, support, words

_MARKER = re.compile(r"[ \t]*\[ ?(\d{1,3}(?: ?[,;] ?\d{1,3}){0,7}) ?\]")
_OPEN_MARKER = re.compile(r"[ \t]*\[[ \d,;]{0,48}$|[ \t]+$")
_FENCE = "```"
_CODE = re.compile(r"`([^`\n]+)`")
_MIN_WORDS = 3
"""A sentence of fewer content words is too short to be attributed to a passage by its words."""


@dataclass(frozen=True, slots=True)
class Citation:
    """Marker `[number]` at `start:end` (characters of the answer) and the words in the passage behind it."""

    number: int
    start: int
    end: int
    quote: str
    support: float


@dataclass
class CitationBinder:
    """Text of the model in, text for the client out. `passages[0]` is `[1]`."""

    passages: list[Passage]
    min_support: float
    strict: bool = False
    citations: list[Citation] = field(default_factory=list)
    text: str = ""
    """What the client has got so far."""
    sentences: int = 0
    """Complete sentences that could be attributed."""
    supported: int = 0
    """Those of them that a passage supports."""
    unsupported_in_a_row: int = 0

    def __post_init__(self) -> None:
        self._pending = ""
        self._sentence = ""
        self._named: list[int] = []
        self._in_code = False
        self._fenced = False
        self._gap = ""
        self._shown: set[str] = set()
        self._last = ""
        self._words = [frozenset(words(f"{p.place}\n{p.text}")) for p in self.passages]

    def feed(self, delta: str) -> str:
        """Take a piece of the model's text; return what may be shown now."""
        start = len(self.text)
        self._pending += delta
        held = _OPEN_MARKER.search(self._pending)
        ready = self._pending[: held.start()] if held else self._pending
        self._pending = self._pending[len(ready) :]
        self._take(ready)
        return self.text[start:]

    def finish(self) -> str:
        """The model is done: what was held back, and the last sentence's citations."""
        start = len(self.text)
        ready, self._pending = self._pending, ""
        self._take(_OPEN_MARKER.sub("", ready))
        self._close_sentence()
        return self.text[start:]

    def quote(self, number: int, sentence: str, lead: str = "") -> str:
        """Append a passage's own sentence as a cited quotation; return what was appended."""
        start = len(self.text)
        self._emit(f"{lead}“{sentence}”")
        self._cite(number, sentence, 1.0)
        return self.text[start:]

    def _take(self, ready: str) -> None:
        """Sort text into sentences; a marker belongs to the sentence before it, also behind the full stop."""
        position = 0
        for marker in _MARKER.finditer(ready):
            if not self._is_citation(marker, ready):
                continue
            self._take_plain(ready[position : marker.start()])
            self._named += [int(n) for n in re.findall(r"\d+", marker.group(1))]
            position = marker.end()
        self._take_plain(ready[position:])
        self._in_code ^= bool(ready.count("`") % 2)
        self._last = ready[-1:] or self._last

    def _is_citation(self, marker: re.Match[str], ready: str) -> bool:
        """Tell `[1]` from `argv[1]`: code and indexing stay text."""
        before = ready[: marker.start()]
        if self._in_code ^ before.count("`") % 2:
            return False
        attached = marker.group().startswith("[") and (before[-1:] or self._last).isalnum()
        numbers = [int(n) for n in re.findall(r"\d+", marker.group(1))]
        return not attached or all(1 <= n <= len(self.passages) for n in numbers)

    def _take_plain(self, piece: str) -> None:
        while piece:
            # The boundary shows only with the character behind it, so judge sentence and piece together.
            end = end_of_sentence(self._sentence + piece)
            if end is None:
                self._grow(piece)
                return
            cut = max(0, end - len(self._sentence))
            body, piece = piece[:cut], piece[cut:]
            line = body.rstrip("\n")
            self._grow(line)
            self._close_sentence()
            self._space(body[len(line) :])

    def _grow(self, piece: str) -> None:
        self._sentence += piece
        if not self.strict:
            self._emit(piece)

    def _space(self, line_ends: str) -> None:
        if self.strict:
            self._gap += line_ends
        else:
            self._emit(line_ends)

    def _close_sentence(self) -> None:
        sentence_words = words(self._sentence)
        if self._sentence.lstrip().startswith(_FENCE):
            self._fenced = not self._fenced
        elif len(sentence_words) >= (1 if self._fenced else _MIN_WORDS):
            self.sentences += 1
            scores = {n: self._support(n, sentence_words) for n in range(1, len(self.passages) + 1)}
            numbers = self._supporting(scores)
            self.supported += bool(numbers)
            self.unsupported_in_a_row = 0 if numbers else self.unsupported_in_a_row + 1
            if not self.strict or (numbers and self._show_once()):
                for number in numbers:
                    quote = best_quote(sentence_words, self.passages[number - 1].text)
                    self._cite(number, quote, scores[number])
        self._sentence = ""
        self._named = []

    def _show_once(self) -> bool:
        """Show the sentence that was held back, unless it has been shown before."""
        sentence = self._sentence.strip()
        if sentence in self._shown:
            return False
        self._shown.add(sentence)
        separator = "\n" if "\n" in self._gap else " "
        self._emit((separator if self.text else "") + sentence)
        self._gap = ""
        return True

    def _support(self, number: int, sentence_words: list[str]) -> float:
        """Word overlap; code, inline or in a block, must stand in the passage as it is."""
        passage = self.passages[number - 1]
        if self._fenced:
            line = _flat(self._sentence.strip().removeprefix("$ "))
            return float(line in _flat(passage.text))
        held = f"{passage.place}\n{passage.text}"
        if not all(re.search(rf"(?<!\w){re.escape(code)}(?!\w)", held) for code in _CODE.findall(self._sentence)):
            return 0.0
        return support(sentence_words, self._words[number - 1])

    def _supporting(self, scores: dict[int, float]) -> list[int]:
        named = [n for n in dict.fromkeys(self._named) if scores.get(n, 0.0) >= self.min_support]
        if named or not scores:
            return named
        best = max(scores, key=lambda n: (scores[n], -n))
        return [best] if scores[best] >= self.min_support else []

    def _cite(self, number: int, quote: str, score: float) -> None:
        if self.text and not self.text[-1].isspace() and not self.text.endswith("]"):
            self._emit(" ")
        start = len(self.text)
        self._emit(f"[{number}]")
        self.citations.append(Citation(number, start, len(self.text), quote, round(score, 3)))

    def _emit(self, piece: str) -> None:
        self.text += piece


def _flat(text: str) -> str:
    return " ".join(text.split())
