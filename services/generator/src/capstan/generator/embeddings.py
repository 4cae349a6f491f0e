"""Embeddings of short texts, from the retriever."""

import math
import operator
from collections.abc import Sequence
from typing import Protocol

import httpx2
import orjson

BATCH = 64
Vector = list[float]


class EmbeddingsUnavailable(Exception):
    """There are no embeddings at the moment; the message says why."""


class Embed(Protocol):
    """Texts in, one vector of length 1 each out. Raises `EmbeddingsUnavailable`."""

    async def __call__(self, texts: Sequence[str]) -> list[Vector]:
        """One vector for each text, in order."""


class Embeddings:
    """`POST /v1/embeddings` of the retriever, in one tenant's name."""

    def __init__(self, retriever: httpx2.AsyncClient, headers: dict[str, str], *, timeout_s: float) -> None:
        self._retriever = retriever
        self._headers = headers
        self._timeout_s = timeout_s

    async def __call__(self, texts: Sequence[str]) -> list[Vector]:
        """One vector for each text, in order."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), BATCH):
            vectors += await self._batch(texts[start : start + BATCH])
        return vectors

    async def _batch(self, texts: Sequence[str]) -> list[Vector]:
        try:
            response = await self._retriever.post(
                "/v1/embeddings", json={"input": list(texts)}, headers=self._headers, timeout=self._timeout_s
            )
            response.raise_for_status()
            data = sorted(orjson.loads(response.content)["data"], key=lambda item: item["index"])
            vectors = [_unit(item["embedding"]) for item in data]
        except (httpx2.HTTPError, KeyError, TypeError, ValueError) as error:
            raise EmbeddingsUnavailable(f"the retriever gives no embeddings ({type(error).__name__})") from None
        if len(vectors) != len(texts):
            raise EmbeddingsUnavailable("the retriever gave another number of embeddings than asked for")
        return vectors


def similarity(a: Vector, b: Vector) -> float:
    """Cosine of two vectors of length 1."""
    return math.fsum(map(operator.mul, a, b))


def _unit(vector: Sequence[float]) -> Vector:
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]
