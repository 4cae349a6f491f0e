"""What is dropped after extraction: boilerplate, duplicates, and pages with nothing to find."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import StrEnum

from capstan.extract.page import Page, Section
from capstan.jobs.corpus.documents import Document
from capstan.jobs.corpus.recipe import Cleaning


class Dropped(StrEnum):
    """Why something is not in the corpus. The manifest counts each."""

    ALIAS = "alias"
    LABEL = "label"
    EXCLUDED = "excluded"
    BROKEN = "broken"
    UNSUPPORTED = "unsupported"
    EMPTY = "empty"
    LINKS_ONLY = "links_only"
    DUPLICATE = "duplicate"
    BOILERPLATE = "boilerplate_sections"


def verdict(page: Page, rules: Cleaning) -> Dropped | None:
    """Why a page alone is not worth keeping, if it is not."""
    if page.characters < rules.min_characters:
        return Dropped.EMPTY
    return Dropped.LINKS_ONLY if page.link_share > rules.max_link_share else None


def drop_boilerplate(documents: Iterable[Document], rules: Cleaning) -> Counter[str]:
    """Remove the top-level sections that many documents of a source share, in place; how many, by source.

    Deeper ones are kept: methods that related modules have in common are worth finding in each.
    """
    seen: dict[tuple[str, bytes], int] = defaultdict(int)
    documents = list(documents)
    for document in documents:
        for key in {_key(document, section) for section in document.sections}:
            seen[key] += 1
    dropped: Counter[str] = Counter()
    facts = {heading.casefold() for heading in rules.keep_headings}
    for document in documents:
        kept = [
            section
            for section in document.sections
            if len(section.heading) > 1
            or seen[_key(document, section)] < rules.repeated_in
            or "".join(section.heading).casefold() in facts
        ]
        dropped[document.source] += len(document.sections) - len(kept)
        document.sections = kept
    return +dropped


def drop_duplicates(
    documents: Iterable[Document], rules: Cleaning
) -> tuple[list[Document], Counter[tuple[str, Dropped]]]:
    """Documents in the order of their ids without those whose text another has, or that have too little left."""
    first: set[bytes] = set()
    kept: list[Document] = []
    dropped: Counter[tuple[str, Dropped]] = Counter()
    for document in sorted(documents, key=lambda d: d.id):
        if document.characters < rules.min_characters:
            dropped[document.source, Dropped.EMPTY] += 1
        elif (mark := document.fingerprint()) in first:
            dropped[document.source, Dropped.DUPLICATE] += 1
        else:
            first.add(mark)
            kept.append(document)
    return kept, dropped


def distinguish_titles(documents: Iterable[Document]) -> None:
    """Give documents of a source that share a title the name of their directory: "Introduction (filesystems/ext4)"."""
    namesakes: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for document in documents:
        namesakes[document.source, document.title].append(document)
    for same in namesakes.values():
        for document in same if len(same) > 1 else ():
            directory, _, name = document.id.removeprefix(f"{document.source}/").rpartition("/")
            document.title = f"{document.title} ({directory or name})"


def _key(document: Document, section: Section) -> tuple[str, bytes]:
    return document.source, hashlib.sha256(" ".join(section.text.split()).encode()).digest()
