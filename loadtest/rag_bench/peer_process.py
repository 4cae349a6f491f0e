"""The peer in a process of its own environment: its index, and questions over a pipe."""

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from loadtest.rag_bench.ours import Found

PYTHON = "CAPSTAN_NATIVE_PEERS_RAG_PYTHON"
REQUIREMENTS = Path("training-jobs/requirements/peers-rag.txt")
_COMMON = Path(__file__).parents[2] / "services/common/src"
_FORMAT = 1  # raise it when documents are given to the peer in another way
_SCRIPT = Path(__file__).with_name("peer.py")


class PeerError(Exception):
    """The peer cannot run; the message says what to change."""


def index_directory(cache: Path, documents: Path, model: Path, chunk_size: int | None) -> Path:
    """Where an index lies: named after the documents, the model, the packages and the chunking."""
    digest = hashlib.sha256(f"{_FORMAT} {model.parent.parent.name} {chunk_size}\n".encode())
    digest.update(REQUIREMENTS.read_bytes())
    with documents.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return cache / "bench-rag" / f"llamaindex-{chunk_size or 'default'}-{digest.hexdigest()[:12]}"


def build(index: Path, documents: Path, model: Path, chunk_size: int | None) -> dict[str, Any]:
    """Embed the documents, unless that is done; the figures of the build. Raises `PeerError`."""
    done = index / "build.json"
    if not done.is_file():
        index.mkdir(parents=True, exist_ok=True)
        command = [_python(), str(_SCRIPT), "build", "--documents", str(documents), "--model", str(model)]
        command += ["--out", str(index), *(["--chunk-size", str(chunk_size)] if chunk_size else [])]
        if subprocess.run(command, stdout=subprocess.DEVNULL, env=_environment()).returncode:
            raise PeerError(f"the peer's index could not be built; see the lines above, and delete {index}")
    figures: dict[str, Any] = json.loads(done.read_text())
    return figures


class Peer:
    """Answers questions one at a time."""

    def __init__(
        self, index: Path, model: Path, reranker: Path | None, *, candidates: int, depth: int, passage_tokens: int
    ) -> None:
        command = [_python(), str(_SCRIPT), "serve", "--index", str(index), "--model", str(model)]
        command += ["--candidates", str(candidates), "--depth", str(depth), "--threads", str(os.cpu_count() or 1)]
        if reranker:
            command += ["--reranker", str(reranker), "--passage-tokens", str(passage_tokens)]
        self.reranks = reranker is not None
        self._process = subprocess.Popen(
            command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()  # it has nothing to finish
        self._process.__exit__(kind, error, at)

    def answer(self, query: str, mode: str, *, rerank: bool, exclude: Sequence[str]) -> Found:
        """One question. What is excluded is taken out of its ranking: it has no such option for both retrievers."""
        found = self._ask({"query": query, "mode": mode, "rerank": rerank and self.reranks})
        return Found([d for d in found["documents"] if d not in exclude], found["ms"])

    def score(self, query: str, passages: Sequence[str]) -> dict[str, float]:
        """The time that scoring passages takes, in milliseconds."""
        found: dict[str, float] = self._ask({"query": query, "passages": list(passages)})
        return found

    def cut(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Texts cut to an exact number of the model's tokens; it has the tokenizer."""
        found: list[str] = self._ask({"cut": list(texts), "tokens": tokens})
        return found

    def _ask(self, question: dict[str, Any]) -> Any:
        pipe: IO[str] | None = self._process.stdin
        assert pipe is not None
        pipe.write(json.dumps(question) + "\n")
        pipe.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError("the peer ended; see the lines above")
        return json.loads(line)


def _python() -> str:
    python = os.environ.get(PYTHON)
    if not python:
        raise PeerError(f"{PYTHON} is not set: run 'make bench-rag', which prepares the peer's environment")
    return python


def _environment() -> dict[str, str]:
    """No look at a hub. Of our sources the peer sees the common ones: they run our reranker's graph."""
    own = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **own, "PYTHONPATH": str(_COMMON)}
