"""What held-out items may not share with training, and nothing may share with the evaluation's labelled questions."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from capstan.jobs.assistant.data.drafts import Draft, Refused
from capstan.jobs.pretrain.text import ngram_hashes, seen_in, words

_SHINGLE = 3
_COMMON = 400
"""A shingle of more prompts than that is wording of ours."""
_QUESTION = re.compile(r"\n\nQuestion: (.*)\Z", re.DOTALL)


def asked(draft: Draft) -> str:
    """What an item asks; of a grounded one the question without its passages."""
    match = _QUESTION.search(draft.prompt)
    return match[1] if match else draft.prompt


class Prompts:
    """Prompts by their shingles, to find one that is nearly the same."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._shingles = [_shingles(text) for text in texts]
        self._having: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, shingles in enumerate(self._shingles):
            for shingle in shingles:
                self._having[shingle].append(number)

    def nearest(self, text: str) -> float:
        """The greatest Jaccard similarity of a prompt here to `text`, 0..1."""
        own = _shingles(text)
        common: Counter[int] = Counter()
        for shingle in own:
            having = self._having.get(shingle, [])
            if len(having) <= _COMMON:
                common.update(having)
        likely = (number for number, _ in common.most_common(20))
        return max((len(own & self._shingles[n]) / len(own | self._shingles[n]) for n in likely), default=0.0)


def without(
    drafts: Sequence[Draft], others: Sequence[Draft], *, overlap: int, near: float, refused: Refused
) -> list[Draft]:
    """The drafts that share no `overlap`-gram with `others`, and whose prompts are not nearly the same."""
    hashes = [ngram_hashes(f"{draft.prompt}\n{draft.reference}", overlap) for draft in drafts]
    wanted = np.unique(np.concatenate([*hashes, np.empty(0, np.uint64)]))
    seen = frozenset(seen_in((f"{other.prompt}\n{other.reference}" for other in others), wanted, overlap).tolist())
    prompts = Prompts(asked(other) for other in others)
    kept: list[Draft] = []
    for draft, own in zip(drafts, hashes, strict=True):
        if not seen.isdisjoint(own.tolist()):
            refused.add(draft.kind, f"held out, but shares a {overlap}-gram with training")
        elif prompts.nearest(asked(draft)) >= near:
            refused.add(draft.kind, "held out, but nearly the same as a prompt of training")
        else:
            kept.append(draft)
    return kept


class Labelled:
    """The questions that evaluation asks, with their answers and documents: no item may hold anything of them."""

    def __init__(self, questions: Sequence[dict[str, object]], *, overlap: int, near: float) -> None:
        texts = [f"{q['question']}\n{q.get('answer', '')}" for q in questions]
        hashes = [ngram_hashes(text, overlap) for text in texts]
        self._seen = frozenset(gram for own in hashes for gram in own.tolist())
        self._questions = [frozenset(words(str(q["question"]))) for q in questions]
        self._overlap, self._near = overlap, near

    def holds(self, draft: Draft) -> bool:
        """Whether the item shares an n-gram with a question or its answer, or asks nearly the same."""
        own = ngram_hashes(f"{draft.prompt}\n{draft.reference}", self._overlap)
        if not self._seen.isdisjoint(own.tolist()):
            return True
        said = frozenset(words(asked(draft)))
        likely = (q for q in self._questions if len(q) >= self._near * len(said) and len(said) >= self._near * len(q))
        return any(len(said & q) >= self._near * len(said | q) for q in likely)


def consistent(drafts: Sequence[Draft], refused: Refused) -> list[Draft]:
    """The drafts without repeated prompts; of prompts with several answers, none."""
    answers: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        answers[_plain(draft)].add(draft.reference)
    kept: dict[str, Draft] = {}
    for draft in drafts:
        if len(answers[_plain(draft)]) > 1:
            refused.add(draft.kind, "the same prompt has several answers")
        elif kept.setdefault(_plain(draft), draft) is not draft:
            refused.add(draft.kind, "a repeated prompt")
    return list(kept.values())


def _plain(draft: Draft) -> str:
    return f"{draft.kind} {' '.join(words(draft.prompt))}"


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    count = max(1, len(found) - _SHINGLE + 1)
    return frozenset(tuple(found[n : n + _SHINGLE]) for n in range(count))
