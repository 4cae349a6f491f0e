"""Sentences, words, and what one text shares with another."""

import re
from collections.abc import Iterable

_WORD = re.compile(r"[A-Za-z0-9_]+(?:[-.'][A-Za-z0-9_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*(?=\s|\[\d)|\n+")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|fig|no|approx)\.$", re.IGNORECASE)
_ITEM_NUMBER = re.compile(r"\A\s*\d{1,3}[.)](?=\s|\Z)")
_CODE = re.compile(r"`([^`\n]+)`")
_EXACT = re.compile(
    r"\d"  # numbers, versions
    r"|^--?[A-Za-z]"  # options
    r"|\w_\w|[a-z][A-Z]|\w\(\)$|::|^[$%@]\w"  # names in code
    r"|[A-Za-z]{2,}\.[A-Za-z]{2,}|^(?:~|\.{1,2})?/\w|/.*/"  # dotted names, addresses, paths
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NEGATION = re.compile(
    r"\b(?:not(?!\s+only)|no|never|none|nothing|nobody|neither|nor|cannot|without|unable|fails?\s+to)\b|n['’]t\b",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"[,;:()—]|\.\s|\s-\s|\b(?:but|however|although|though|unless|whereas|while|because|if|when|so that)\b",
    re.IGNORECASE,
)
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
    """The word without plural, `-ed`, `-ing` and final `e`: enough for "files", "staged" and "running"."""
    if word.endswith("ies") and len(word) > 4:
        word = f"{word[:-3]}y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and re.search("[aeiouy]", stem):
            word = stem[:-1] if stem[-1] == stem[-2] and stem[-1] not in "lsz" else stem
    return word.removesuffix("e") if len(word) > 3 else word


def flat(text: str) -> str:
    """The text with each run of white space as one space."""
    return " ".join(text.split())


def end_of_sentence(text: str) -> int | None:
    """Where the first complete sentence of `text` ends (exclusive), or None while none is complete.

    A sentence ends at `.`, `!` or `?` before white space, or at a line's end; not at an abbreviation, at the number of
    a list's item, or inside a code span.
    """
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if match.group().startswith("\n"):
            return end
        before = text[:end]
        if not (_ABBREVIATION.search(before) or _ITEM_NUMBER.fullmatch(before) or before.count("`") % 2):
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


def clauses(text: str) -> list[str]:
    """The clauses of a sentence, roughly: cut at commas, semicolons, brackets and contrasting words."""
    return [clause for clause in _CLAUSE_END.split(text) if _WORD.search(clause)]


def negated_words(text: str) -> set[str]:
    """Content words that stand behind a negation in their clause: what the text says is not so."""
    found: set[str] = set()
    for clause in clauses(text):
        if match := _NEGATION.search(clause):
            found |= set(words(clause[match.end() :]))
    return found


def support(sentence_words: Iterable[str], passage_words: frozenset[str]) -> float:
    """Share of the sentence's distinct content words that the passage holds, 0..1."""
    wanted = set(sentence_words)
    return len(wanted & passage_words) / len(wanted) if wanted else 0.0


def exact_terms(text: str) -> set[str]:
    """What must stand in a source as it is: numbers, options, names of code, paths, and what is in code ticks.

    The number of a list's item is not one of them.
    """
    terms = {flat(code) for code in _CODE.findall(text)}
    for token in _ITEM_NUMBER.sub("", _CODE.sub(" ", text), count=1).split():
        term = token.strip("\"'“”‘’()[]{}<>,;:!?*").rstrip(".")
        if term and token.rstrip(".,;:!?").endswith("()"):
            term += "()"
        if _EXACT.search(term):
            terms.add(term)
    return terms - {""}


def holds(text: str, term: str) -> bool:
    """Whether `text` has the term as a whole: `-x` is not in `--x-y`, 3.1 not in 3.11. `1,024` is 1024."""
    wanted, body = (_THOUSANDS.sub("", t) for t in (term.removesuffix("()") or term, text))
    before = r"(?<![\w-])" if wanted[0] == "-" else r"(?<!\w)(?<!\d[.,])" if wanted[0].isdigit() else r"(?<!\w)"
    after = r"(?![\w-])" if wanted[0] == "-" else r"(?!\.?\d|\w)" if wanted[-1].isdigit() else r"(?!\w)"
    return re.search(before + re.escape(wanted) + after, body) is not None


def best_quote(sentence_words: Iterable[str], passage: str) -> str:
    """The passage's own sentence, word for word, that shares most with the given words."""
    wanted = set(sentence_words)

    def shared(candidate: str) -> tuple[int, int]:
        return len(wanted & set(words(candidate))), -len(candidate)

    return max(sentences(passage), key=shared, default=passage.strip())
