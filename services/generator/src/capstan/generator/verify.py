"""Verifies sentences against passages: their words, their exact terms, their polarity, and their meaning.

A passage supports a sentence when all of this holds:

1. it has at least `min_support` of the sentence's content words;
2. it has every number, option, name of code and path of the sentence as it is, and each line of a code block;
3. the passage's closest sentences do not negate what the sentence affirms, and negate some of what it negates;
4. the embeddings of the sentence and of the passage's closest sentences have a cosine of at least `min_similarity`.

The fourth needs the embedding service; without it the first three decide, and `lexical_only` says so. A code block
has no meaning to embed: its lines must stand in the passage.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from capstan.generator.embeddings import Embed, EmbeddingsUnavailable, Vector, similarity
from capstan.generator.markers import Sentence
from capstan.generator.passages import Passage
from capstan.generator.text import exact_terms, flat, holds, negated_words, sentences, support, words

log = logging.getLogger("capstan.generator.verify")

_MIN_WORDS = 3
"""A sentence of fewer content words and without an exact term says nothing that could be attributed."""
_NEAR = 0.5
"""Sentences that share this much of what the closest one shares are near as well."""
_EMBEDDED = 3
"""Places of a passage that a sentence's embedding is compared with."""
_PROMPT_SIGN = re.compile(r"^(?:\$|>>>|\.\.\.|#)\s+")


@dataclass(frozen=True, slots=True)
class Support:
    """How one passage supports a sentence: share of its words, cosine (None: not measured), the closest words."""

    words: float
    similarity: float | None
    quote: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about a sentence. `by` are the supporting passages by number, the best first.

    `is_claim` is False for what needs no support ("Sure!"). `support` is the largest share of words in any passage.
    """

    is_claim: bool
    by: dict[int, Support] = field(default_factory=dict)
    support: float = 0.0


class _Source:
    """A passage, taken apart once."""

    def __init__(self, passage: Passage) -> None:
        self.text = f"{passage.place}\n{passage.text}"
        self.flat = flat(passage.text)
        self.words = frozenset(words(self.text))
        self.sentences = [(sentence, frozenset(words(sentence))) for sentence in sentences(passage.text)]
        self.quote = passage.text.strip()

    def closest(self, wanted: set[str], count: int) -> list[str]:
        """The sentences, and pairs of neighbouring ones, that share most with the wanted words; single ones first."""
        pairs = [(f"{a} {b}", x | y) for (a, x), (b, y) in pairwise(self.sentences)]
        ranked = sorted([*self.sentences, *pairs], key=lambda item: (-len(wanted & item[1]), len(item[0])))
        return [text for text, _ in ranked[:count]]

    def quoted(self, wanted: set[str]) -> str:
        """The sentence that shares most with the wanted words, as it stands in the passage."""
        best = max(self.sentences, key=lambda item: (len(wanted & item[1]), -len(item[0])), default=(self.quote, 0))
        return best[0]

    def agrees(self, text: str) -> bool:
        """Whether the sentences near `text` affirm what it affirms and negate something of what it negates.

        Words that do not occur in them decide nothing.
        """
        wanted, denied = set(words(text)), negated_words(text)
        most = max((len(wanted & held) for _, held in self.sentences), default=0)
        near = [sentence for sentence in self.sentences if len(wanted & sentence[1]) >= max(1.0, _NEAR * most)]
        here_denied = set[str]().union(*(negated_words(sentence) for sentence, _ in near))
        here_affirmed = set[str]().union(*(held - negated_words(sentence) for sentence, held in near))
        known = denied & (here_denied | here_affirmed)
        contradicted = (wanted - denied) & (here_denied - here_affirmed)
        return not contradicted and (not known or bool(known & here_denied))


class Verifier:
    """Verifies the sentences of one answer. `passages[0]` is number 1."""

    def __init__(
        self, passages: Sequence[Passage], embed: Embed | None, *, min_support: float, min_similarity: float
    ) -> None:
        self._sources = [_Source(passage) for passage in passages]
        self._embed = embed
        self._min_support = min_support
        self._min_similarity = min_similarity
        self._vectors: dict[str, Vector] = {}

    @property
    def lexical_only(self) -> bool:
        """Whether the embedding service could not be asked."""
        return self._embed is None

    async def verify(self, sentence: Sentence) -> Verdict:
        """Which passages support the sentence: of those that its markers name, else the one that does it best."""
        wanted = words(sentence.text)
        terms = exact_terms(sentence.text)
        if not sentence.is_code and len(set(wanted)) < _MIN_WORDS and not terms:
            return Verdict(is_claim=False)
        shares = {n: self._words(source, sentence, wanted, terms) for n, source in enumerate(self._sources, start=1)}
        best_first = sorted((n for n in shares if shares[n] >= self._min_support), key=lambda n: (-shares[n], n))
        named = [n for n in sentence.named if n in best_first]
        by = await self._supporting(sentence, named, shares, most=len(named))
        if not by:
            by = await self._supporting(sentence, [n for n in best_first if n not in named], shares, most=1)
        return Verdict(True, by, round(max(shares.values(), default=0.0), 3))

    async def _supporting(
        self, sentence: Sentence, numbers: list[int], shares: dict[int, float], *, most: int
    ) -> dict[int, Support]:
        found: dict[int, Support] = {}
        wanted = set(words(sentence.text))
        for number in numbers:
            source = self._sources[number - 1]
            cosine = (
                None if sentence.is_code else await self._similarity(sentence.text, source.closest(wanted, _EMBEDDED))
            )
            if cosine is None or cosine >= self._min_similarity:
                share = round(shares[number], 3)
                found[number] = Support(share, None if cosine is None else round(cosine, 3), source.quoted(wanted))
            if len(found) == most:
                break
        return found

    def _words(self, source: _Source, sentence: Sentence, wanted: list[str], terms: set[str]) -> float:
        """Share of the words that the source holds; 0 where an exact term, a line of code or the polarity differs."""
        if sentence.is_code:
            lines = [flat(_PROMPT_SIGN.sub("", line.strip())) for line in sentence.text.split("\n")[1:-1]]
            return float(any(lines) and all(line in source.flat for line in lines))
        if not all(holds(source.text, term) for term in terms) or not source.agrees(sentence.text):
            return 0.0
        return support(wanted, source.words) if wanted else 1.0

    async def _similarity(self, text: str, places: list[str]) -> float | None:
        """The best cosine between the text and the places, or None without an embedding service."""
        if self._embed is None or not places:
            return None
        missing = [t for t in dict.fromkeys((text, *places)) if t not in self._vectors]
        if missing:
            try:
                self._vectors.update(zip(missing, await self._embed(missing), strict=True))
            except EmbeddingsUnavailable as error:
                log.warning("sentences are verified by their words alone", extra={"error": str(error)})
                self._embed = None
                return None
        return max(similarity(self._vectors[text], self._vectors[place]) for place in places)
