"""Does a passage support a sentence? A judge of its own, independent of the service that wrote the answer.

It shares no code with the generator and asks for more: the words must stand close together (in three
consecutive sentences of the passage, not anywhere in it), every number and every identifier of the
sentence must be there as it is, negation must agree, and where the words are not all the same the
sentence's embedding must be near. It is no entailment model: none is to be had offline that is licensed
and small enough. What it is worth is measured by a person on a sample (`labels/citations-hand-check.jsonl`).

Definitions of what is judged: ALCE, https://arxiv.org/abs/2305.14627.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts to vectors of length 1, one a row."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?", re.UNICODE)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:[a-zA-Z%]{1,3})?(?!\w)")
_IDENTIFIER = re.compile(
    r"""`[^`\n]+`                              # inline code
    | (?<![\w/])--?[A-Za-z][\w-]*              # options
    | (?<!\w)[$@%&][A-Za-z_]\w*                # variables
    | (?<!\w)[\w.]+\(\d?\w*\)                  # calls and manual pages
    | (?<![\w/])/?\w[\w.-]*(?:/[\w.-]+)+       # paths
    | (?<!\w)\w+(?:(?:::|->|\.)[A-Za-z]\w*)+   # qualified names
    | (?<!\w)[A-Za-z]\w*_\w+                   # snake_case
    | (?<!\w)[a-z]+[A-Z]\w*                    # camelCase
    | (?<!\w)[A-Z][a-z0-9]+[A-Z]\w*            # CamelCase
    | (?<!\w)[A-Z]{3,}\d*(?!\w)                # CONSTANTS
    """,
    re.VERBOSE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|cannot|without|un(?:able|supported|available))\b|n't\b", re.I
)
_SENTENCE = re.compile(r"(?<=[.!?:;])[\"')\]”]*\s+|\n+")
_STOP = frozenset(
    re.findall(
        r"\w+",
        """a about also an and any are as at be because been but by can could did do does for from get had has have he
        her his how i if in into is it its just like may me might more most must my of on one only or other our out over
        own shall she should so some such than that the their them then there these they this those to too up us use
        used uses using very was way we were what when where which who why will with would you your""",
    )
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the passages support the sentence, and why (not)."""

    supported: bool
    reason: str
    overlap: float = 0.0
    similarity: float = 0.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Fixed before the first answer was judged."""

    overlap: float = 0.6
    """Share of the sentence's content words that a window must hold at the least."""
    all_words: float = 0.85
    """Share that is enough without the embedding being near."""
    similarity: float = 0.6
    """Cosine of sentence and window that is near."""
    window: int = 3
    """Consecutive sentences of a passage that are read together."""


def content_words(text: str) -> list[str]:
    """Lower-case words without stop words and common endings."""
    return [_stem(w) for w in (m.group().lower() for m in _WORD.finditer(text)) if w not in _STOP and len(w) > 1]


def _stem(word: str) -> str:
    for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return (word[: -len(ending)] + rest).rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


def flat(text: str) -> str:
    """Text with single spaces, in lower case, its typographic quotes made plain."""
    table = str.maketrans("“”„‘’`", "\"\"\"'''")
    return " ".join(text.translate(table).lower().split())


def attributable(sentence: str) -> bool:
    """Whether a sentence says something that a passage could support: three content words, or code with one."""
    words = content_words(sentence)
    return len(words) >= 3 or bool(words and _IDENTIFIER.search(sentence))


class Verifier:
    """Judges sentences. `embed` may be None: then only nearly all words in one window are enough."""

    def __init__(self, embed: Embed | None, thresholds: Thresholds | None = None) -> None:
        self._embed = embed
        self._at = thresholds or Thresholds()

    def judge(self, sentence: str, passages: Sequence[str]) -> Verdict:
        """Whether the passages together support the sentence. They are read as one text, each with its own windows."""
        if not passages:
            return Verdict(False, "nothing is cited")
        quoted = flat(sentence).strip(" \"'-–•.")
        whole = flat("\n".join(passages))
        if len(quoted) >= 12 and quoted in whole:
            return Verdict(True, "word for word", 1.0, 1.0)
        if missing := _missing(sentence, whole):
            return Verdict(False, f"not in the passage: {missing}")
        wanted = set(content_words(sentence))
        if not wanted:
            return Verdict(False, "no content words")
        windows = [w for passage in passages for w in _windows(passage, self._at.window)]
        ranked = sorted(windows, key=lambda w: (-_overlap(wanted, w), len(w)))[:4]
        if len(passages) > 1:
            ranked.append("\n".join(_best(wanted, _windows(p, self._at.window)) for p in passages))
        return self._best_of(sentence, wanted, ranked)

    def _best_of(self, sentence: str, wanted: set[str], windows: Sequence[str]) -> Verdict:
        """The verdict of the first window that supports the sentence, else of the one with most of its words."""
        verdict = Verdict(False, "the passage is empty")
        for window in sorted(windows, key=lambda w: -_overlap(wanted, w)):
            overlap = round(_overlap(wanted, window), 3)
            near = 0.0
            if overlap < self._at.overlap:
                found = Verdict(False, f"only {overlap:.0%} of its words stand together", overlap)
            elif _negated(sentence) != _negated(_closest(wanted, window)):
                found = Verdict(False, "one of the two is negated", overlap)
            else:
                near = self._similarity(sentence, window)
                enough = overlap >= self._at.all_words or near >= self._at.similarity
                reason = "its words stand together" if enough else f"another meaning (cosine {near:.2f})"
                found = Verdict(enough, reason, overlap, near)
            if found.supported:
                return found
            if verdict.overlap < overlap or verdict.reason == "the passage is empty":
                verdict = found
        return verdict

    def _similarity(self, sentence: str, window: str) -> float:
        if self._embed is None:
            return 0.0
        one, other = self._embed([sentence, window])
        return round(float(one @ other), 3)


def _missing(sentence: str, whole: str) -> str | None:
    """The first number or identifier of the sentence that the passages do not have."""
    for match in (*_IDENTIFIER.finditer(sentence), *_NUMBER.finditer(sentence)):
        token = flat(match.group().strip("`")).strip("'\" ")
        bare = token.removesuffix("()")
        if bare and not re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", whole):
            return match.group()
    return None


def _windows(passage: str, size: int) -> list[str]:
    """Runs of `size` consecutive sentences, overlapping; the whole passage if it is shorter."""
    parts = [part for part in _SENTENCE.split(passage) if part and part.strip()]
    if len(parts) <= size:
        return [passage] if passage.strip() else []
    return ["\n".join(parts[n : n + size]) for n in range(len(parts) - size + 1)]


def _overlap(wanted: set[str], text: str) -> float:
    return len(wanted & set(content_words(text))) / len(wanted)


def _best(wanted: set[str], windows: Sequence[str]) -> str:
    return max(windows, key=lambda w: _overlap(wanted, w), default="")


def _closest(wanted: set[str], window: str) -> str:
    """The window's one sentence that has most of the words: negation elsewhere is about something else."""
    return _best(wanted, [part for part in _SENTENCE.split(window) if part])


def _negated(text: str) -> bool:
    """An odd number of negations; "not only" and "whether or not" are none."""
    plain = re.sub(r"\bnot only\b|\bor not\b|\bno\.(?=\s*\d)|\bno longer than\b", "", text, flags=re.I)
    return len(_NEGATION.findall(plain)) % 2 == 1


class CachedEmbedder:
    """Embeds each text once. `fetch` takes at most 64 texts."""

    def __init__(self, fetch: Embed, known: Mapping[str, npt.NDArray[np.float32]] | None = None) -> None:
        self._fetch = fetch
        self._known = dict(known or {})

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One row a text."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(missing), 64):
            batch = missing[start : start + 64]
            self._known.update(zip(batch, self._fetch(batch), strict=True))
        return np.stack([self._known[text] for text in texts])
