"""Bring the retriever's documents up to date with a corpus, over its public API.

Loading twice changes nothing: only documents that are new or whose revision differs are sent, in batches.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.manifest import DOCUMENTS, MANIFEST, read_manifest
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.corpus.progress import Steps

BATCH_DOCUMENTS = 256
BATCH_BYTES = 4 * 1024 * 1024
_PAGE = 1000
_TRIES = 60
_LONGEST_WAIT_S = 30.0
_TIMEOUT_S = 120.0


@dataclass(slots=True)
class Loaded:
    """How many documents were sent, already there, and deleted."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        counts = f"{self.created:,} created, {self.updated:,} updated, {self.unchanged:,} unchanged"
        return f"documents: {counts}, {self.deleted:,} deleted"


class Retriever:
    """The part of the retriever's API that loading needs; every request says for which tenant it is."""

    def __init__(self, url: str, tenant: str, secret: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        try:
            self._client = httpx2.Client(base_url=url, timeout=httpx2.Timeout(_TIMEOUT_S, connect=5.0), trust_env=False)
        except httpx2.InvalidURL as error:
            raise CorpusError(f"retriever {url}: not a URL ({error})") from None
        self._url = url
        self._signer = Signer(secret)
        self._identity = Identity(tenant=tenant, service="corpus")
        self._sleep = sleep

    def __enter__(self) -> "Retriever":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def revisions(self) -> dict[str, str]:
        """Revision of each of the tenant's own documents, keyed by id; the shared ones in the list are left out."""
        known: dict[str, str] = {}
        cursor: str | None = None
        while True:
            query: dict[str, str | int] = {"limit": _PAGE} | ({"cursor": cursor} if cursor else {})
            page = self._send("GET", "/v1/documents", params=query)
            own = (entry for entry in page["data"] if entry["tenant"] == self._identity.tenant)
            known.update((entry["id"], entry["revision"]) for entry in own)
            cursor = page["next"]
            if cursor is None:
                return known

    def post(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """Send documents, each as its line of the corpus file; the retriever's result for each."""
        body = b'{"documents":[' + b",".join(line.rstrip(b"\n") for line in lines) + b"]}"
        headers = {"content-type": "application/json"}
        results: list[dict[str, Any]] = self._send("POST", "/v1/documents", content=body, headers=headers)["results"]
        return results

    def delete(self, document: str) -> None:
        """Delete a document; one that is gone already is no error."""
        self._send("DELETE", f"/v1/documents/{quote(document, safe='/')}", missing_ok=True)

    def _send(self, method: str, path: str, *, missing_ok: bool = False, **options: Any) -> Any:
        for _ in range(_TRIES):
            headers = {**options.pop("headers", {}), IDENTITY_HEADER: self._signer.sign(self._identity)}
            try:
                response = self._client.request(method, path, headers=headers, **options)
            except (httpx2.TransportError, httpx2.UnsupportedProtocol) as error:
                reason = str(error) or type(error).__name__
                raise CorpusError(f"retriever {self._url} does not answer ({reason}); is it running?") from None
            options["headers"] = {name: value for name, value in headers.items() if name != IDENTITY_HEADER}
            if response.status_code == 503:
                self._sleep(_wait(response))
            elif response.is_success:
                return response.json() if response.content else None
            elif response.status_code == 404 and missing_ok:
                return None
            else:
                raise CorpusError(f"retriever {self._url} answered {response.status_code}: {_message(response)}")
        raise CorpusError(f"retriever {self._url} stayed overloaded; run this again later, it goes on where it stopped")


def load_corpus(corpus: Path, retriever: Retriever, steps: Steps, *, prune: bool) -> Loaded:
    """Send what is new or changed; with `prune`, delete what the corpus no longer has. Raises `CorpusError`."""
    total = _checked_documents(corpus)
    loaded = Loaded()
    gone = retriever.revisions()
    with steps.step("load", total, "documents") as advance:
        batch: list[bytes] = []
        size = 0
        for line in _lines(corpus / DOCUMENTS):
            document = json.loads(line)
            if gone.pop(document["id"], None) == document["revision"]:
                loaded.unchanged += 1
                advance(1)
                continue
            if batch and (len(batch) == BATCH_DOCUMENTS or size + len(line) > BATCH_BYTES):
                _post(retriever, batch, loaded, advance)
                batch, size = [], 0
            batch.append(line)
            size += len(line)
        if batch:
            _post(retriever, batch, loaded, advance)
    if prune and gone:
        with steps.step("prune", len(gone), "documents") as advance:
            for document_id in gone:
                retriever.delete(document_id)
                loaded.deleted += 1
                advance(1)
    return loaded


def _post(retriever: Retriever, batch: list[bytes], loaded: Loaded, advance: Callable[[int], None]) -> None:
    for result in retriever.post(batch):
        setattr(loaded, result["status"], getattr(loaded, result["status"]) + 1)
    advance(len(batch))


def _checked_documents(corpus: Path) -> int:
    """Number of documents in a corpus that is whole. Raises `CorpusError`."""
    manifest = read_manifest(corpus)
    documents = corpus / DOCUMENTS
    if manifest is None or not documents.is_file():
        raise CorpusError(f"{corpus} holds no corpus ({DOCUMENTS} and {MANIFEST}); run build first")
    if sha256_of(documents) != manifest.get("documents_sha256"):
        raise CorpusError(f"{documents} is not the file that {MANIFEST} describes; run build again")
    return int(manifest["total"]["documents"])


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _wait(response: httpx2.Response) -> float:
    """Seconds until the next try: what Retry-After says, within reason."""
    try:
        return min(max(float(response.headers.get("retry-after", "1")), 0.1), _LONGEST_WAIT_S)
    except ValueError:
        return 1.0


def _message(response: httpx2.Response) -> str:
    try:
        return " ".join(str(response.json()["error"]["message"]).split())
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase or "no reason given"
