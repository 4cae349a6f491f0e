"""Known items: titles and headings that should lead back to their own document. Not questions, and kept apart."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from capstan.jobs.labels.links import Known

_PREFIX = re.compile(r"^(?:[\w.:+-]+\(\w+\): |(?:Linux kernel|PostgreSQL|SQLite|Python|Perl|Debian|aws [\w -]+): )")
_MIN_WORDS = 3


def title_items(documents: dict[str, Known], count: int) -> list[dict[str, Any]]:
    """`count` titles without the name of what they belong to, from all sources in turn, each of one document only."""
    titles = {document.id: _PREFIX.sub("", document.title) for document in documents.values()}
    shared = Counter(title.casefold() for title in titles.values())
    by_source: dict[str, list[str]] = defaultdict(list)
    for document_id in sorted(titles, key=_order):
        title = titles[document_id]
        if len(title.split()) >= _MIN_WORDS and shared[title.casefold()] == 1:
            by_source[documents[document_id].source].append(document_id)
    turns = zip_longest(*(by_source[source] for source in sorted(by_source)))
    chosen = [document_id for turn in turns for document_id in turn if document_id][:count]
    return [_item("title", titles[document_id], document_id) for document_id in chosen]


def heading_items(documents: dict[str, Known]) -> Iterator[dict[str, Any]]:
    """The questions of the Debian FAQ, whose answers are below them in the corpus: the heading finds its own page."""
    for document in documents.values():
        if document.source == "debian-faq":
            for heading in dict.fromkeys(path[-1] for path in document.headings if path):
                if heading.endswith("?") and len(heading.split()) >= _MIN_WORDS:
                    yield _item("heading", heading, document.id)


def _order(document_id: str) -> str:
    return hashlib.sha256(document_id.encode()).hexdigest()


def _item(kind: str, query: str, document_id: str) -> dict[str, Any]:
    return {
        "id": f"{kind}/{_order(document_id + query)[:12]}",
        "kind": kind,
        "question": query,
        "documents": [document_id],
    }
