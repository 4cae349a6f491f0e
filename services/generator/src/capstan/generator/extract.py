"""The extractive answer: the passages' own sentences and code that answer the question best.

Pieces are scored by the question's words that they hold (rare ones count more), by the cosine of their embedding with
the question's, and by their passage's rank. They are chosen one by one against repetition (maximal marginal relevance,
Carbonell and Goldstein 1998) and given in reading order.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from capstan.generator.embeddings import Embed, EmbeddingsUnavailable, Vector, similarity
from capstan.generator.passages import Passage
from capstan.generator.pieces import Piece, pieces
from capstan.generator.text import words

_EMBEDDED = 40
"""Pieces, those with most of the question's words, of which the embeddings are compared."""
_EMBEDDED_CHARS = 800
_PLACE = 0.3
"""What a question's word counts that stands in a piece's title or heading only."""
_RANK = 0.04
"""What each place of the passage in the ranking costs."""
_RELEVANCE = 0.3
"""What it costs that the reranker scores the passage below the best one, times the difference."""
_NO_LEAD = 0.1
"""What it costs a block of code that no words lead to it."""
_DIVERSITY = 0.35
_REPEATS = 0.9
_RELATIVE = 0.75
"""A piece is shown if it has at least this share of the best one's score."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A piece and how well it answers, about 0..1."""

    piece: Piece
    score: float
    words: frozenset[str]
    vector: Vector | None


async def best_pieces(
    question: str,
    passages: Sequence[Passage],
    embed: Embed | None,
    *,
    least: float = 0.0,
    most: int = 4,
    characters: int = 900,
) -> list[Scored]:
    """Up to `most` pieces in reading order; empty when none scores `least`."""
    scored = await _scored(question, passages, embed)
    best = max((candidate.score for candidate in scored), default=0.0)
    if best < least or not scored:
        return []
    chosen: list[Scored] = []
    left = [candidate for candidate in scored if candidate.score >= _RELATIVE * best]
    room = characters
    while left and len(chosen) < most:
        candidate = max(left, key=lambda c: c.score - _DIVERSITY * _likeness(c, chosen))
        left.remove(candidate)
        size = len(candidate.piece.text) + len(candidate.piece.code)
        if _likeness(candidate, chosen) > _REPEATS or (chosen and size > room):
            continue
        chosen.append(candidate)
        room -= size
    return _in_reading_order(chosen)


async def _scored(question: str, passages: Sequence[Passage], embed: Embed | None) -> list[Scored]:
    wanted = frozenset(words(question))
    found = [piece for n, passage in enumerate(passages, start=1) for piece in pieces(n, passage)]
    held = [frozenset(words(f"{piece.text} {piece.code}")) for piece in found]
    weight = _rarity(wanted, held)
    places = [frozenset(words(passage.place)) for passage in passages]
    shares = [
        _share(wanted & has, weight) + _PLACE * _share((wanted - has) & places[piece.number - 1], weight)
        for piece, has in zip(found, held, strict=True)
    ]
    best = max((p.relevance or 0.0 for p in passages), default=0.0)
    costs = [_RANK * place + _RELEVANCE * (best - (p.relevance or 0.0)) for place, p in enumerate(passages)]
    kept = sorted(range(len(found)), key=lambda i: (costs[found[i].number - 1] - shares[i], i))[:_EMBEDDED]
    vectors = await _vectors(question, [found[i] for i in kept], embed)
    result: list[Scored] = []
    for i, vector in zip(kept, vectors[1:] or [None] * len(kept), strict=True):
        cosine = shares[i] if vector is None or vectors[0] is None else similarity(vectors[0], vector)
        penalty = costs[found[i].number - 1] + _NO_LEAD * (bool(found[i].code) and not found[i].text)
        result.append(Scored(found[i], (shares[i] + cosine) / 2 - penalty, held[i], vector))
    return result


def _in_reading_order(chosen: Sequence[Scored]) -> list[Scored]:
    return sorted(chosen, key=lambda candidate: (candidate.piece.number, candidate.piece.order))


def _likeness(candidate: Scored, chosen: Sequence[Scored]) -> float:
    return max((_alike(candidate, other) for other in chosen), default=0.0)


def _alike(a: Scored, b: Scored) -> float:
    if a.vector is not None and b.vector is not None:
        return similarity(a.vector, b.vector)
    return len(a.words & b.words) / max(1, len(a.words | b.words))


def _rarity(wanted: frozenset[str], held: Sequence[frozenset[str]]) -> dict[str, float]:
    """Inverse document frequency of the question's words among the pieces."""
    count = Counter(word for has in held for word in wanted & has)
    return {word: math.log(1 + len(held) / (1 + count[word])) for word in wanted}


def _share(has: frozenset[str], weight: dict[str, float]) -> float:
    total = sum(weight.values())
    return sum(weight[word] for word in has) / total if total else 0.0


async def _vectors(question: str, found: Sequence[Piece], embed: Embed | None) -> Sequence[Vector | None]:
    """The question's vector and the pieces'; empty without an embedding service."""
    if embed is None or not found:
        return []
    try:
        return await embed([question, *(f"{piece.text} {piece.code}"[:_EMBEDDED_CHARS] for piece in found)])
    except EmbeddingsUnavailable:
        return []
