"""Documents: what the corpus file holds, one JSON object a line."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from capstan.extract.page import Section

MAX_ID = 512


@dataclass(slots=True)
class Document:
    """One page. `id` is unique and stable, `url` says where the page is in its package or folder."""

    id: str
    title: str
    source: str
    license: str
    url: str
    sections: list[Section]

    @property
    def characters(self) -> int:
        """Characters of text in all sections, headings apart."""
        return sum(len(section.text) for section in self.sections)

    def record(self) -> dict[str, Any]:
        """The document as the corpus file and the retriever's API have it.

        `revision` is 128 bits of the SHA-256 of the canonical content: it changes when anything a reader
        or a search could notice changes.
        """
        content = {
            "id": self.id,
            "title": self.title,
            "source": self.source,
            "license": self.license,
            "url": self.url,
            "sections": [{"heading": list(s.heading), "text": s.text} for s in self.sections],
        }
        canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        return {**content, "revision": hashlib.sha256(canonical).hexdigest()[:32]}

    def line(self) -> bytes:
        """The record as one line of the corpus file."""
        return json.dumps(self.record(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def fingerprint(self) -> bytes:
        """Equal for documents with the same text, whatever their names."""
        text = "\n".join(" ".join(section.text.split()) for section in self.sections)
        return hashlib.sha256(text.encode()).digest()


def document_id(source: str, name: str) -> str:
    """`source/name`, cut to the longest id that is allowed, with a hash where it had to be cut."""
    full = f"{source}/{name}"
    if len(full) <= MAX_ID:
        return full
    digest = hashlib.sha256(full.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{full[: MAX_ID - 17]}-{digest}"
