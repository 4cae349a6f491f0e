"""Questions with passages in the generator's prompt: cited answers, and the abstention where no passage holds one."""

import random
from collections.abc import Iterator, Sequence

from capstan.jobs.assistant.data.drafts import Draft, Refused, dice
from capstan.jobs.assistant.data.passages import LONGEST, Search, cut
from capstan.jobs.assistant.data.prompt import ABSTENTION, Passage, messages, plain
from capstan.jobs.assistant.data.questions import Question
from capstan.jobs.evaluate.verifier import Verifier, content_words

_EVIDENCE = 1500
"""Characters of all passages together."""
_SHORTEST = 120
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
        if any(not self._verifier.judge(sentence, [gold.text]).supported for sentence in question.answer):
            return "the passage does not support the answer"
        if _share(question.text, question.product, f"{gold.place} {gold.text}") < _MEANT:
            return "the passage has little to do with the question"
        beside = [p for p in self._beside(question) if not self._may_answer(question, p)]
        count = min(rng.choice(_COUNTS), len(beside) + 1)
        room = max(_EVIDENCE - len(gold.text), _SHORTEST)
        chosen = [*_fitted(beside[: count - 1], room), gold]
        rng.shuffle(chosen)
        number = chosen.index(gold) + 1
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
        chosen = _fitted(beside[: rng.choice(_COUNTS)], _EVIDENCE)
        if len(chosen) < 2:
            return "too few passages that do not answer"
        check = {"answerable": False, "passages": [p.text for p in chosen]}
        return self._draft(question, family, chosen, ABSTENTION, check, rng)

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


def _fitted(found: Sequence[Passage], room: int) -> list[Passage]:
    """The passages cut so that they fit together; one that would be very short is left out."""
    each = room // max(1, len(found))
    if each < _SHORTEST:
        found, each = found[: max(1, room // _SHORTEST)], max(room // max(1, room // _SHORTEST), _SHORTEST)
    return [Passage(p.document, p.place, cut(p.text, min(each, LONGEST))) for p in found]
