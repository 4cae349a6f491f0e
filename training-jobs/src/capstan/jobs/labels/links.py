"""From a link in an answer to a document of the corpus."""

import fnmatch
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capstan.extract import text as normal
from capstan.extract.formats import read_text
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.manifest import DOCUMENTS
from capstan.jobs.labels.entry import Link
from capstan.jobs.labels.html import place_heading

_MANUAL = re.compile(r"^([\w.:+-]+)\((\d\w*)\)$")


@dataclass(frozen=True, slots=True)
class Known:
    """What the labels need of a document."""

    id: str
    title: str
    source: str
    headings: tuple[tuple[str, ...], ...]

    def has_heading(self, heading: str) -> bool:
        """Whether a section of the document lies under this heading."""
        return any(heading in path for path in self.headings)


def read_documents(corpus: Path) -> dict[str, Known]:
    """The corpus's documents by id. Raises `CorpusError` if there is no corpus."""
    path = corpus / DOCUMENTS
    if not path.is_file():
        raise CorpusError(
            f"{corpus} holds no {DOCUMENTS}; build the corpus first (python -m capstan.jobs.corpus build)"
        )
    documents = {}
    with path.open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            headings = tuple(tuple(section["heading"]) for section in record["sections"])
            documents[record["id"]] = Known(record["id"], record["title"], record["source"], headings)
    return documents


class Resolver:
    """Finds the documents that the links of one page mean. `root` is the directory its package's pages lie in."""

    def __init__(self, documents: dict[str, Known], package: str, root: Path, generic: list[str]) -> None:
        self._documents = documents
        self._package = package
        self._root = root
        self._generic = generic

    def documents(self, page: str, links: tuple[Link, ...]) -> Iterator[tuple[str, str]]:
        """For each link that means a document: its id, and the heading of the section it names or ""."""
        for link in links:
            found = self._html(page, link) if page.endswith(".html") else self._pod(link)
            if found and not any(fnmatch.fnmatchcase(found, pattern) for pattern in self._generic):
                yield found, self._heading(found, page, link)

    def _html(self, page: str, link: Link) -> str:
        if not link.target.endswith(".html") or "://" in link.target:
            return ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link.target))
        return self._there(f"{self._package}/{path.removesuffix('.html')}")

    def _pod(self, link: Link) -> str:
        if manual := _MANUAL.match(link.target):
            names = [f"{package}/{manual[1]}.{manual[2]}" for package in (self._package, "manpages", "manpages-dev")]
        else:
            names = [f"{self._package}/{link.target}{suffix}" for suffix in (".1", ".3perl")]
        return next(filter(None, map(self._there, names)), "")

    def _there(self, document_id: str) -> str:
        return document_id if document_id in self._documents else ""

    def _heading(self, found: str, page: str, link: Link) -> str:
        if not link.place:
            return ""
        heading = link.place
        if page.endswith(".html"):
            path = self._root / f"{found.removeprefix(self._package + '/')}.html"
            heading = place_heading(read_text(path), link.place)
        heading = normal.prose(heading)
        return heading if self._documents[found].has_heading(heading) else ""
