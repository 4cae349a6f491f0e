"""The retriever and the reranker over HTTP, as any client calls them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.jobs.evaluate.errors import EvaluateError

TENANT = "evaluation"
"""Owns no documents, so that it sees the shared ones alone."""
_PAGE = 1000
_CHUNK_PAGE = 50
_TRIES = 30


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk; `index` is its place in its document."""

    id: str
    document: str
    index: int
    title: str
    heading: tuple[str, ...]
    text: str

    @property
    def placed(self) -> str:
        """The text below its title and heading path."""
        return f"{' > '.join(dict.fromkeys((self.title, *self.heading)))}\n{self.text}"


class Service:
    """A service's JSON API. A busy one is asked again; any other failure is an `EvaluateError`."""

    def __init__(self, url: str, secret: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = url
        self._client = httpx2.Client(base_url=url, timeout=httpx2.Timeout(180.0, connect=5.0), trust_env=False)
        self._signer = Signer(secret)
        self._sleep = sleep

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The body of a successful answer. Raises `EvaluateError`."""
        for attempt in range(_TRIES):
            headers = {IDENTITY_HEADER: self._signer.sign(Identity(TENANT, "evaluate"))}
            try:
                response = self._client.request(method, path, headers=headers, **options)
            except httpx2.TransportError as error:
                raise EvaluateError(f"{self.url} does not answer ({type(error).__name__}); is it running?") from None
            if response.is_success:
                return response.json()
            if response.status_code != 503:
                raise EvaluateError(f"{self.url}{path} answered {response.status_code}: {_message(response)}")
            self._sleep(min(0.5 * (attempt + 1), 5.0))
        raise EvaluateError(f"{self.url} stayed overloaded; run this again, it goes on where it stopped")


class Retriever(Service):
    """Searches and chunks."""

    def index(self) -> dict[str, Any]:
        """Counts, and whether all is embedded."""
        state: dict[str, Any] = self.call("GET", "/v1/index")
        return state

    def search(self, query: str, mode: str, limit: int, **options: Any) -> list[tuple[Passage, float]]:
        """Chunks and their scores, best first. Raises `EvaluateError` while dense search does not see all chunks."""
        answer = self.call("POST", "/v1/search", json={"query": query, "mode": mode, "limit": limit, **options})
        if mode != "bm25" and answer["dense_coverage"] < 1:
            raise EvaluateError(f"{self.url} has embedded {answer['dense_coverage']:.1%} of its chunks; wait for it")
        return [(_passage(result), result["score"]) for result in answer["results"]]

    def chunks(self, document: str, first: int = 0, count: int | None = None) -> Iterator[Passage]:
        """Chunks of a document in its order, from `first` on, all or `count` of them."""
        place: int | None = first
        while place is not None and (count is None or count > 0):
            size = min(_CHUNK_PAGE, count if count is not None else _CHUNK_PAGE)
            query: dict[str, str | int] = {"document_id": document, "from": place, "limit": size}
            page = self.call("GET", "/v1/chunks", params=query)
            title = page["document"]["title"]
            yield from (_passage({**chunk, "document_id": document, "title": title}) for chunk in page["data"])
            place = page["next"]
            count = None if count is None else count - len(page["data"])

    def documents(self) -> Iterator[str]:
        """Ids of all documents."""
        cursor: str | None = None
        while True:
            query: dict[str, str | int] = {"limit": _PAGE} | ({"cursor": cursor} if cursor else {})
            page = self.call("GET", "/v1/documents", params=query)
            yield from (entry["id"] for entry in page["data"])
            cursor = page["next"]
            if cursor is None:
                return


class Reranker(Service):
    """Scores of passages."""

    def models(self) -> dict[str, Any]:
        """What the reranker says of the model that it runs."""
        models: dict[str, Any] = self.call("GET", "/v1/models")
        return models

    def scores(self, query: str, texts: list[str], groups: list[str] | None = None) -> list[float]:
        """A score for each text, in their order; higher is better. Texts of one group may support each other."""
        documents = [{"text": t, "group": g} for t, g in zip(texts, groups, strict=True)] if groups else texts
        answer = self.call("POST", "/v1/rerank", json={"query": query, "documents": documents})
        scores = [0.0] * len(texts)
        for result in answer["results"]:
            scores[result["index"]] = result["relevance_score"]
        return scores


def _passage(chunk: dict[str, Any]) -> Passage:
    return Passage(
        id=chunk["id"],
        document=chunk["document_id"],
        index=chunk["chunk_index"],
        title=chunk["title"],
        heading=tuple(chunk["heading"]),
        text=chunk["text"],
    )


def _message(response: httpx2.Response) -> str:
    try:
        return " ".join(str(response.json()["error"]["message"]).split())
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase or "no reason given"
