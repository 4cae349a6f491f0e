"""Documents out of their stored chunks, for an index that is built from another one.

With the same chunk settings a stored chunk becomes a chunk again, as it is. With other settings the
chunks are joined to sections first: neighbours under one heading are one section, cuts become paragraph
borders, and what two windows share is there once. Two things stay different from the document as it came
in: the headings of small sections that had been joined into one chunk are lines of its text, under the
heading they share, and so are all headings in windows. Ingesting the document again makes up for it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from capstan.retriever.chunking import Chunk, Section
from capstan.retriever.ingest import NewDocument
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import Payload


def same_chunks(one: RetrieverSettings, other: RetrieverSettings) -> bool:
    """Whether both cut documents alike. Token counts are the model's, so limits agree up to that."""
    return _cutting(one) == _cutting(other)


def _cutting(settings: RetrieverSettings) -> tuple[object, ...]:
    own = settings.window_overlap if settings.chunking == "window" else settings.small_tokens
    return settings.chunking, settings.chunk_tokens, own


def as_they_are(sections: Sequence[Section]) -> list[Chunk]:
    """A `Chunker` for sections that are chunks."""
    return [Chunk(section.heading, (((), section.text),), 0) for section in sections]


def documents(payloads: Iterable[Payload], overlap: int | None) -> list[NewDocument]:
    """The documents that these chunks of one tenant make up.

    `overlap` None: their sections are the chunks as they are. Else the sections are joined again, from
    windows that share up to so many tokens (0: from chunks that share nothing).
    """
    of_document: dict[str, list[Payload]] = defaultdict(list)
    for payload in payloads:
        of_document[payload.document_id].append(payload)
    return [_document(chunks, overlap) for chunks in of_document.values()]


def _document(payloads: list[Payload], overlap: int | None) -> NewDocument:
    """One document. After a crash in an update there may be two revisions, or parts of two.

    A whole one is taken; if there is none then all chunks are, without a revision, so that the next ingest
    of the document is an update.
    """
    found = Counter(payload.revision for payload in payloads)
    whole = [p for p in payloads if p.chunks == found[p.revision]]
    revision = min((p.revision for p in whole), default=None)
    chosen = [p for p in payloads if revision in (None, p.revision)]
    chosen.sort(key=lambda payload: payload.chunk_index)
    first = chosen[0]
    sections = [Section(tuple(payload.heading), payload.text) for payload in chosen]
    if overlap is not None:
        sections = _joined(sections, overlap)
    return NewDocument(
        first.document_id, first.title, tuple(sections), first.source, first.license, first.url, revision
    )


def _joined(chunks: list[Section], overlap: int) -> list[Section]:
    sections: list[Section] = []
    for chunk in chunks:
        text = chunk.text
        if sections and overlap:
            shared = _shared(sections[-1].text, text)
            text = text[shared:].lstrip()
        if sections and sections[-1].heading == chunk.heading:
            sections[-1] = Section(chunk.heading, f"{sections[-1].text}\n\n{text}".rstrip())
        elif text:
            sections.append(Section(chunk.heading, text))
    return sections


def _shared(left: str, right: str) -> int:
    """Length of the longest beginning of `right` that `left` ends with, whole words only."""
    for length in range(min(len(left), len(right)), 0, -1):
        if (
            left.endswith(right[:length])
            and (length == len(left) or left[-length - 1].isspace())
            and (length == len(right) or right[length].isspace())
        ):
            return length
    return 0
