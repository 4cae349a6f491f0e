"""Which side a document is on: by its family, never by a paraphrase."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from capstan.jobs.assistant.data.drafts import Document
from capstan.jobs.assistant.data.plan import DataPlan

COMMON = "common"
"""Family of what is so widely shared (the options of git log and git diff) that it is only trained on."""
_MOST_PAGES = 6
_BOILERPLATE = 25
"""A paragraph that stands on more pages than that says nothing about which belong together."""
_LEAST_CHARACTERS = 40
_SHARED = 0.3
_VERB = re.compile(r"^(?:batch-)?[a-z0-9]+-")


def is_read(document: Document, plan: DataPlan) -> bool:
    """Whether a document is in the share that is read; of the AWS CLI it is whole services, which load slowly."""
    source, _, name = document["id"].partition("/")
    kept_together = name.partition("/")[0] if document["source"] == "awscli" else name
    return _place(f"{plan.seed}/read/{source}/{kept_together}") < plan.share


def side(family: str, plan: DataPlan) -> str:
    """The split of a family: train, validation or test, by a hash of its name."""
    if family == COMMON:
        return "train"
    place = _place(f"{plan.seed}/{family}")
    if place < plan.held_out:
        return "test"
    return "validation" if place < plan.held_out + plan.validated else "train"


def _place(name: str) -> float:
    """A number in 0..1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def families_of(documents: Sequence[Document]) -> dict[str, str]:
    """The family of each document by its id.

    An aws command's is its service and what it acts on; pages that share much of their text are one family.
    """
    aws = {d["id"]: aws_family(d["id"].partition("/")[2].split("/")) for d in documents if d["source"] == "awscli"}
    pages = {d["id"]: _paragraphs(d) for d in documents if d["source"] != "awscli"}
    return {**aws, **joined(pages, shared=_SHARED)}


def aws_family(names: Sequence[str]) -> str:
    """Service and noun: create-vpc, delete-vpc and describe-vpcs are "aws ec2 vpc"."""
    service, *between, operation = ("", *names) if len(names) < 2 else names
    words = operation.split("-")
    noun = words[:-1] if between == ["wait"] else _VERB.sub("", operation, count=1).split("-")
    return f"aws {service} {'-'.join(map(_singular, noun))}"


def joined(texts: Mapping[str, Iterable[str]], *, shared: float) -> dict[str, str]:
    """Pages to families: two pages are of one where the one with fewer texts shares more than `shared` of them.

    Families that touch are one, named after the first of its pages; a large one is `COMMON`.
    """
    of_page = {page: frozenset(found) for page, found in texts.items()}
    pages_with: dict[str, list[str]] = {}
    for page, found in of_page.items():
        for text in found:
            pages_with.setdefault(text, []).append(page)
    head = {page: page for page in of_page}

    def root(page: str) -> str:
        while head[page] != page:
            page = head[page]
        return page

    for page, found in of_page.items():
        near = {p for text in found if len(pages_with[text]) <= _BOILERPLATE for p in pages_with[text]}
        for other in near - {page}:
            if len(found & of_page[other]) > shared * min(len(found), len(of_page[other])):
                first, second = sorted((root(page), root(other)))
                head[second] = first
    members: dict[str, int] = {}
    for page in of_page:
        members[root(page)] = members.get(root(page), 0) + 1
    return {page: root(page) if members[root(page)] <= _MOST_PAGES else COMMON for page in of_page}


def _paragraphs(document: Document) -> set[str]:
    texts = (paragraph for section in document["sections"] for paragraph in re.split(r"\n+", section["text"]))
    return {" ".join(text.split()) for text in texts if len(text) >= _LEAST_CHARACTERS}


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 2 else word
