"""A grounded answer passes when its citations hold and it says what was asked for; an abstention where nothing does."""

import pytest

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.data.prompt import ABSTENTION
from capstan.jobs.assistant.items import Item

PASSAGES = [
    "The close() call releases a file descriptor.",
    "pipe() creates a pipe, a unidirectional data channel. Data written to the write end is buffered by the kernel.",
]
REFERENCE = "pipe() creates a pipe, a unidirectional data channel. [2]"


def item(*, answerable: bool = True) -> Item:
    about = {"answerable": answerable, "passages": PASSAGES, **({"passage": 2} if answerable else {})}
    return Item(
        "1", "grounded", "page", ({"role": "user", "content": "…"},), REFERENCE if answerable else ABSTENTION, about
    )


@pytest.mark.parametrize(
    ("answer", "exact"),
    [
        (REFERENCE, True),
        ("pipe() creates a pipe, a unidirectional data channel [2].", False),
        (REFERENCE + " Data written to the write end is buffered by the kernel. [2]", False),
    ],
)
def test_a_supported_answer_passes(answer: str, exact: bool) -> None:
    verdict = check(item(), answer)
    assert (verdict.passed, verdict.exact, verdict.reason) == (True, exact, "right")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no answer of the kind that was asked for"),
        ("pipe() creates a pipe, a unidirectional data channel.", "cites nothing"),
        (REFERENCE.replace("[2]", "[1]"), "cites a passage that does not support it"),
        (REFERENCE.replace("[2]", "[3]"), "cites a passage that does not exist"),
        ("socketpair() creates two sockets. [2]", "cites a passage that does not support it"),
        ("The close() call releases a file descriptor. [1]", "cites another passage"),
        ("Data written to the write end is buffered by the kernel. [2]", "says something else"),
        (REFERENCE + " The kernel schedules the processes that read it.", "ends without a citation"),
        (ABSTENTION, "abstains although a passage answers"),
    ],
)
def test_a_fault_fails_with_its_reason(answer: str, reason: str) -> None:
    verdict = check(item(), answer)
    assert (verdict.passed, verdict.exact, verdict.reason) == (False, False, reason)


def test_without_evidence_only_the_abstention_passes() -> None:
    assert check(item(answerable=False), ABSTENTION).exact
    assert check(item(answerable=False), ABSTENTION.rstrip(".")).passed
    assert check(item(answerable=False), REFERENCE).reason == "answers without evidence"
    assert check(item(answerable=False), f"{ABSTENTION} But pipe() may help. [2]").reason == "more than the abstention"
