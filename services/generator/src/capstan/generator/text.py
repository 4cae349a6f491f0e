"""Sentences, words, and how far a passage supports a sentence."""

import re
from collections.abc import Iterable

_WORD = re.compile(r"[A-Za-z0-9_]+(?:[-.'][A-Za-z0-9_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*(?=\s)|\n+")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|fig|no|approx)\.$", re.IGNORECASE)
_STOP = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be been but by can could do does for from had has have he how i if in into is it its may
    might must no not of on or our shall should so some such than that the their them then there these they this
    to use used uses using was we were what when where which who will with would you your""",
    )
)


def words(text: str) -> list[str]:
    """Content words of a text: lower case, without stop words, plural endings cut."""
    found = (word.lower() for word in _WORD.findall(text))
    return [_stem(word) for word in found if word not in _STOP]


def _stem(word: str) -> str:
    for ending in ("ies", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 2 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def end_of_sentence(text: str) -> int | None:
    """Where the first complete sentence of `text` ends (exclusive), or None while none is complete.

    A sentence ends at `.`, `!` or `?` before white space, or at a line's end.
    """
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if match.group().startswith("\n") or not _ABBREVIATION.search(text[:end]):
            return end
    return None


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped; those without a word are left out."""
    found: list[str] = []
    while (end := end_of_sentence(text)) is not None:
        found.append(text[:end].strip())
        text = text[end:]
    found.append(text.strip())
    return [sentence for sentence in found if _WORD.search(sentence)]


def support(sentence_words: Iterable[str], passage_words: frozenset[str]) -> float:
    """Share of the sentence's distinct content words that the passage holds, 0..1."""
    wanted = set(sentence_words)
    return len(wanted & passage_words) / len(wanted) if wanted else 0.0


def best_quote(sentence_words: Iterable[str], passage: str) -> str:
    """The passage's own sentence, word for word, that shares most with the given words."""
    wanted = set(sentence_words)

    def shared(candidate: str) -> tuple[int, int]:
        return len(wanted & set(words(candidate))), -len(candidate)

    return max(sentences(passage), key=shared, default=passage.strip())
