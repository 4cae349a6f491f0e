"""Binds citations to passages while the answer streams.

The model's markers are taken out of the text. Each complete sentence is verified; behind it come the markers of the
passages that support it. So every marker that a client sees names a passage that exists and supports the sentence.

A strict binder shows a sentence only when a passage supports it, and each sentence once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from capstan.common.telemetry import span
from capstan.generator.defuse import Sources
from capstan.generator.markers import Sentence, Splitter, take_markers
from capstan.generator.passages import Passage
from capstan.generator.verify import Support, Verdict, Verifier


@dataclass(frozen=True, slots=True)
class Citation:
    """Marker `[number]` at `start:end` (characters of the answer) and the words in the passage behind it."""

    number: int
    start: int
    end: int
    quote: str
    support: float


@dataclass(frozen=True, slots=True)
class Checked:
    """A sentence of the answer at `start:end`, its markers not included, and what its verification found.

    One that is not shown (strict) has no place: `start` and `end` are None.
    """

    text: str
    start: int | None
    end: int | None
    supported: bool
    citations: tuple[int, ...]
    support: float
    similarity: float | None = None


@dataclass
class CitationBinder:
    """Text of the model in, text for the client out. `passages[0]` is `[1]`."""

    passages: Sequence[Passage]
    verifier: Verifier
    strict: bool = False
    text: str = ""
    """What the client has got so far."""
    citations: list[Citation] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    unsupported_in_a_row: int = 0

    def __post_init__(self) -> None:
        self._splitter = Splitter(len(self.passages))
        self._sources = Sources(frozenset(p.url for p in self.passages if p.url), tuple(p.text for p in self.passages))
        self._gap = ""
        self._after_code = False
        self._shown: set[str] = set()

    @property
    def supported(self) -> int:
        """Sentences that a passage supports."""
        return sum(sentence.supported for sentence in self.checked)

    async def feed(self, delta: str) -> str:
        """Take a piece of the model's text; return what may be shown now."""
        start = len(self.text)
        for sentence in self._splitter.feed(delta):
            await self._take(sentence)
        return self.text[start:]

    async def finish(self) -> str:
        """The model is done: what was held back."""
        start = len(self.text)
        for sentence in self._splitter.finish():
            await self._take(sentence)
        return self.text[start:]

    def quote(self, number: int, text: str, *, quote: str, gap: str, is_code: bool = False) -> str:
        """Append a passage's own words as a cited sentence; return what was appended. `quote` is their place in it."""
        start = len(self.text)
        verdict = Verdict(True, {number: Support(1.0, None, quote)}, 1.0)
        self._show(self._inert(Sentence(text, gap, (number,), is_code)), verdict)
        return self.text[start:]

    def say(self, text: str) -> str:
        """Append words of our own, which nothing supports; return what was appended."""
        start = len(self.text)
        self._emit(text)
        return self.text[start:]

    async def _take(self, sentence: Sentence) -> None:
        sentence = self._inert(sentence)
        self._gap += sentence.gap
        if not sentence.text:
            return
        with span("verify") as checking:
            verdict = await self.verifier.verify(sentence)
            checking.set_attribute("supported", bool(verdict.by))
        if verdict.is_claim:
            self.unsupported_in_a_row = 0 if verdict.by else self.unsupported_in_a_row + 1
        if self.strict and (not verdict.by or sentence.text in self._shown):
            if verdict.is_claim and not verdict.by:
                self.checked.append(Checked(sentence.text, None, None, False, (), verdict.support))
            return
        self._shown.add(sentence.text)
        gap = ("\n" if "\n" in self._gap else " ") if self.strict else self._gap
        self._gap = ""
        self._show(replace(sentence, gap=gap), verdict)

    def _inert(self, sentence: Sentence) -> Sentence:
        """The sentence as it can be shown anywhere; making it inert may bring a marker to light."""
        if sentence.is_code:
            return sentence
        text, _ = take_markers(self._sources.inert(sentence.text), len(self.passages))
        return replace(sentence, text=text)

    def _show(self, sentence: Sentence, verdict: Verdict) -> None:
        gap = sentence.gap if self.text else ""
        if self.text and (sentence.is_code or self._after_code) and "\n" not in gap:
            gap = "\n"
        self._emit(gap)
        self._after_code = sentence.is_code
        start = len(self.text)
        self._emit(sentence.text)
        end = len(self.text)
        for number, found in verdict.by.items():
            if len(self.text) == end:
                self._emit("\n" if sentence.is_code else " ")
            self._cite(number, found)
        if verdict.is_claim:
            similarity = max((s.similarity for s in verdict.by.values() if s.similarity is not None), default=None)
            support = max((s.words for s in verdict.by.values()), default=verdict.support)
            self.checked.append(
                Checked(sentence.text, start, end, bool(verdict.by), tuple(verdict.by), support, similarity)
            )

    def _cite(self, number: int, support: Support) -> None:
        start = len(self.text)
        self._emit(f"[{number}]")
        self.citations.append(Citation(number, start, len(self.text), support.quote, support.words))

    def _emit(self, piece: str) -> None:
        self.text += piece
