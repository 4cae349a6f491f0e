"""Our own steps of a datatrove pipeline, beside the library's."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.stats import PipelineStats
from datatrove.utils.word_tokenizers import WordTokenizer
from loguru import logger

from capstan.jobs.pretrain.text import as_text


class QuietExecutor(LocalPipelineExecutor):  # type: ignore[misc]
    """Runs a pipeline without the library's log; what it counts goes into our manifest."""

    def _run_for_rank(self, rank: int, local_rank: int = 0) -> PipelineStats:
        logger.disable("datatrove")  # this may be a process of its own
        return super()._run_for_rank(rank, local_rank)

    def run(self) -> PipelineStats:
        """Run all tasks; what they counted."""
        logger.disable("datatrove")
        return super().run()


class Whitespace(WordTokenizer):  # type: ignore[misc]
    """Words between white space, as Gopher counts them; the library's English tokenizer would be spaCy."""

    def __init__(self) -> None:
        super().__init__("english")

    def word_tokenize(self, text: str) -> list[str]:
        """Words of a text."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Lines of a text."""
        return text.splitlines()

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """The whole as one span."""
        return [(0, len(text))]


class Corpus(PipelineStep):  # type: ignore[misc]
    """Reads the corpus job's documents as text; task `rank` of `world_size` reads every so many-th."""

    type = "📖 - READER"
    name = "Corpus"

    def __init__(self, documents: Path) -> None:
        super().__init__()
        self.documents = documents

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents of one task."""
        with self.documents.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number % world_size == rank:
                    record = json.loads(line)
                    about = {"source": record["source"], "license": record["license"]}
                    document = Document(text=as_text(record), id=record["id"], metadata=about)
                    self.stat_update("total")
                    self.update_doc_stats(document)
                    yield document


class Language(BaseFilter):  # type: ignore[misc]
    """Drops documents with many letters outside ASCII; words of English are the quality filter's to count."""

    name = "Language"

    def __init__(self, most: float, exclusion_writer: JsonlWriter) -> None:
        super().__init__(exclusion_writer)
        self.most = most

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep a document."""
        letters = [character for character in doc.text if character.isalpha()]
        foreign = sum(not character.isascii() for character in letters)
        return True if foreign <= self.most * len(letters) else (False, "foreign_letters")


class Personal(PIIFormatter):  # type: ignore[misc]
    """Replaces e-mail and public IP addresses, and counts them."""

    name = "Personal data"

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Pass documents on without addresses."""
        for document in data:
            for kind, replacer in (("emails", self.emails_replacer), ("addresses", self.ip_replacer)):
                before = document.text
                document.text = replacer.replace(before)
                if document.text != before:
                    self.stat_update(f"documents_with_{kind}")
            yield document


def part_of(name: str, seed: int, validation: float, test: float) -> str:
    """The split of a document: train, validation or test, by a hash of its id."""
    place = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) / 2**64
    return "validation" if place < validation else "test" if place < validation + test else "train"


class Split(PipelineStep):  # type: ignore[misc]
    """Marks each document with its split, for the writer."""

    type = "✂️ - FORMAT"
    name = "Split"

    def __init__(self, seed: int, validation: float, test: float) -> None:
        super().__init__()
        self.shares = (seed, validation, test)

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Pass documents on with their split."""
        for document in data:
            document.metadata["split"] = part_of(document.id, *self.shares)
            self.stat_update(document.metadata["split"])
            yield document
