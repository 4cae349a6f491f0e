"""A grounded answer is right when each sentence cites a passage that supports it, and the answer is what was asked for.

Where the passages hold no answer, it is right to say so in the generator's words, and to cite nothing. Support is
judged by the evaluation's verifier, by words alone: it is stricter than the generator's own (`jobs/evaluate/verifier`).
"""

import re
from functools import cache

from capstan.jobs.assistant.checkers.verdict import ABSENT, Verdict, right, wrong
from capstan.jobs.assistant.data.prompt import ABSTENTION
from capstan.jobs.assistant.items import Item
from capstan.jobs.evaluate.verifier import Verifier, attributable, content_words

_CITED = re.compile(r"(?P<text>.*?)(?P<markers>(?:\s*\[\d{1,2}(?:, ?\d{1,2})*\])+[.]?)", re.DOTALL)
_NUMBER = re.compile(r"\d+")
_RECALL = 0.5
"""Share of the reference's content words that the answer has to hold."""


def check(item: Item, answer: str) -> Verdict:
    """`item.check` is `{"answerable": bool, "passages": texts, "passage": number of the one that answers}`."""
    text = answer.strip()
    if not text:
        return wrong(ABSENT)
    abstains = text.startswith(ABSTENTION.rstrip("."))
    if not item.check["answerable"]:
        if not abstains:
            return wrong("answers without evidence")
        return (
            wrong("more than the abstention")
            if text.strip(". ") != ABSTENTION.strip(".")
            else right(exact=text == ABSTENTION)
        )
    if abstains:
        return wrong("abstains although a passage answers")
    reason = _fault(text, item)
    return wrong(reason) if reason else right(exact=text == item.reference)


def _fault(text: str, item: Item) -> str | None:
    """What is wrong with an answer where there is one, or None."""
    passages: list[str] = item.check["passages"]
    cited: set[int] = set()
    end = 0
    for match in _CITED.finditer(text):
        numbers = {int(number) for number in _NUMBER.findall(match["markers"])}
        if not numbers <= set(range(1, len(passages) + 1)):
            return "cites a passage that does not exist"
        said = [passages[number - 1] for number in sorted(numbers)]
        if not _verifier().judge(match["text"].strip(), said).supported:
            return "cites a passage that does not support it"
        cited |= numbers
        end = match.end()
    if not cited:
        return "cites nothing"
    if attributable(text[end:]):
        return "ends without a citation"
    if item.check["passage"] not in cited:
        return "cites another passage"
    wanted = set(content_words(item.reference))
    return None if len(wanted & set(content_words(text))) >= _RECALL * len(wanted) else "says something else"


@cache
def _verifier() -> Verifier:
    return Verifier(None)
