"""How near an answer is to the reference: token F1 (Rajpurkar et al. 2016), where both answers pass or both fail."""

import re
from collections import Counter

_TOKEN = re.compile(r"[\w./:@=+-]+|[^\w\s]")


def similarity(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of tokens that are the other's too; 0 to 1, symmetric.

    Case and punctuation count, unlike in SQuAD: `-n` is not `-N`. An option, a path or a word is one token.
    """
    ours, theirs = Counter(_TOKEN.findall(answer)), Counter(_TOKEN.findall(reference))
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 1.0
