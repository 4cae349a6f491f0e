"""What an index is made of, and filling it."""

import fnmatch
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.load import Retriever as Loader
from capstan.jobs.corpus.load import load_corpus
from capstan.jobs.corpus.manifest import DOCUMENTS, MANIFEST, dump, read_manifest
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.client import Retriever
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.recipe import Index
from capstan.jobs.evaluate.rows import key_of

_POLL_S = 2.0


def made_of(index: Index, corpus: Path) -> dict[str, Any]:
    """All that decides what is in an index: its settings, and the documents. Raises `EvaluateError`."""
    manifest = read_manifest(corpus)
    if manifest is None:
        raise EvaluateError(f"{corpus} holds no corpus; build it first (python -m capstan.jobs.corpus build)")
    return {**index.model_dump(), "corpus": manifest["documents_sha256"]}


def fill(
    name: str,
    index: Index,
    retriever: Retriever,
    corpus: Path,
    cache: Path,
    secret: str,
    steps: Steps,
    sleep: Callable[[float], None],
) -> None:
    """Load what is missing, and wait until all of it is embedded. Raises `EvaluateError`."""
    documents = part_of(corpus, index.sources, cache / "corpora") if index.sources else corpus
    steps.say(f"index {name}")
    try:
        with Loader(retriever.url, "shared", secret, sleep=sleep) as loader:
            load_corpus(documents, loader, steps, prune=True)
    except CorpusError as error:
        raise EvaluateError(f"index {name}: {error}") from None
    state = retriever.index()
    with steps.step(f"embed {name}", state["chunks"], "chunks") as advance:
        embedded = 0
        while True:
            advance(state["embedded"] - embedded)
            embedded = state["embedded"]
            if not state["pending"]:
                return
            sleep(_POLL_S)
            state = retriever.index()


def part_of(corpus: Path, sources: list[str], parts: Path) -> Path:
    """A corpus with the documents of some sources only, made once. Raises `EvaluateError` if there are none."""
    manifest = read_manifest(corpus)
    part = parts / key_of(manifest and manifest["documents_sha256"], sources)[:12]
    if (part / MANIFEST).is_file():
        return part
    part.mkdir(parents=True, exist_ok=True)
    count = 0
    with (corpus / DOCUMENTS).open("rb") as lines, (part / DOCUMENTS).open("wb") as out:
        for line in lines:
            source = json.loads(line)["source"]
            if any(fnmatch.fnmatchcase(source, pattern) for pattern in sources):
                out.write(line)
                count += 1
    if not count:
        raise EvaluateError(f"the corpus has no documents of {', '.join(sources)}; correct the recipe")
    content = {"documents_sha256": sha256_of(part / DOCUMENTS), "total": {"documents": count}}
    (part / MANIFEST).write_bytes(dump(content))
    return part
