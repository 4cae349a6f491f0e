"""Questions with passages in the generator's prompt: cited answers, and the abstention where no passage holds one."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from capstan.jobs.assistant.data.drafts import Draft, Refused, dice
from capstan.jobs.assistant.data.passages import Search, cut, windows
from capstan.jobs.assistant.data.prompt import ABSTENTION, Passage, messages, plain
from capstan.jobs.assistant.data.questions import Question
from capstan.jobs.evaluate.verifier import Verifier, content_words

_EVIDENCE = (600, 900, 1500)
"""Characters of all passages together: as long as at work in some items, shorter in others, for their cost."""
_COUNTS = (2, 3, 3, 4)
_CANDIDATES = 14
_ANSWERED = 0.6
"""Share of the answer's words in a passage from which on that may answer the question, too."""
_COVERED = 0.75
"""Share of the question's words in a passage from which on nobody can say that it holds no answer."""
_MEANT = 0.34
"""Share of the question's words that a passage has to hold to be the answer's."""


class Asker:
    """Makes drafts of questions; the passages beside the right one are what a search finds on the same side."""

    def __init__(self, search: Search, seed: int, unanswerable: float, refused: Refused) -> None:
        self._search, self._seed, self._unanswerable, self._refused = search, seed, unanswerable, refused
        self._verifier = Verifier(None)

    def drafts(self, question: Question, family: str) -> Iterator[Draft]:
        """A draft of the question, or none; the reason is counted."""
        rng = dice(self._seed, question.passage.document, question.topic)
        made = (
            self._without(question, family, rng)
            if rng.random() < self._unanswerable
            else self._with(question, family, rng)
        )
        if isinstance(made, str):
            self._refused.add("grounded", made)
        else:
            yield made

    def _with(self, question: Question, family: str, rng: random.Random) -> Draft | str:
        """With its passage, at any place among the others."""
        gold = question.passage
        if not plain(question.text):
            return "a question that the generator would change"
        if not self._supported(question, gold):
            return "the passage does not support the answer"
        if _share(question.text, question.product, f"{gold.place} {gold.text}") < _MEANT:
            return "the passage has little to do with the question"
        beside = [p for p in self._beside(question) if not self._may_answer(question, p)]
        count = min(rng.choice(_COUNTS), len(beside) + 1)
        each = rng.choice(_EVIDENCE) // count
        short = (replace(gold, text=text) for text in windows(gold.text, each))
        right = next((passage for passage in short if self._supported(question, passage)), gold)
        chosen = [*_fitted(beside[: count - 1], each), right]
        rng.shuffle(chosen)
        number = chosen.index(right) + 1
        reference = " ".join(f"{sentence} [{number}]" for sentence in question.answer)
        check = {"answerable": True, "passage": number, "passages": [p.text for p in chosen]}
        return self._draft(question, family, chosen, reference, check, rng)

    def _without(self, question: Question, family: str, rng: random.Random) -> Draft | str:
        """Without it, among passages that a search finds and that do not answer."""
        if not plain(question.text):
            return "a question that the generator would change"
        beside = [
            p
            for p in self._beside(question)
            if not self._may_answer(question, p) and _share(question.text, question.product, p.text) < _COVERED
        ]
        count = rng.choice(_COUNTS)
        chosen = _fitted(beside[:count], rng.choice(_EVIDENCE) // count)
        if len(chosen) < 2:
            return "too few passages that do not answer"
        check = {"answerable": False, "passages": [p.text for p in chosen]}
        return self._draft(question, family, chosen, ABSTENTION, check, rng)

    def _supported(self, question: Question, passage: Passage) -> bool:
        return all(self._verifier.judge(sentence, [passage.text]).supported for sentence in question.answer)

    def _beside(self, question: Question) -> list[Passage]:
        """Other documents' passages, and no text twice."""
        found = self._search(question.text, _CANDIDATES)
        return list({p.text: p for p in found if p.document != question.passage.document}.values())

    def _may_answer(self, question: Question, passage: Passage) -> bool:
        """Whether a passage holds so much of the answer that it could be cited for it."""
        wanted = set(content_words(" ".join(question.answer)))
        return len(wanted & set(content_words(passage.text))) >= _ANSWERED * len(wanted)

    def _draft(
        self,
        question: Question,
        family: str,
        chosen: Sequence[Passage],
        reference: str,
        check: dict[str, object],
        rng: random.Random,
    ) -> Draft:
        source, _, name = question.passage.document.partition("/")
        nonce = f"{rng.getrandbits(48):012x}"
        return Draft("grounded", f"{source}:{name}", family, messages(chosen, question.text, nonce), reference, check)


def _share(question: str, product: str, text: str) -> float:
    """Share of a question's content words, its product apart, that a text has."""
    wanted = set(content_words(question)) - set(content_words(product))
    return len(wanted & set(content_words(text))) / len(wanted) if wanted else 0.0


def _fitted(found: Sequence[Passage], longest: int) -> list[Passage]:
    """The passages cut, as the right one is: it shall not be known by its length."""
    return [replace(passage, text=cut(passage.text, longest)) for passage in found]
