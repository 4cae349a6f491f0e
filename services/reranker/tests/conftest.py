from collections.abc import Callable, Sequence

import httpx2
import pytest

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.reranker.app import create
from capstan.reranker.scorers import Scorer
from capstan.reranker.scores import Scores
from capstan.reranker.settings import RerankerSettings

SECRET = "a test secret of more than thirty-two characters"


class Overlap:
    """Scores by the share of query words in the passage."""

    name, method, scale, runtime = "overlap", "shared words", "0..1", "test"

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        words = set(query.split())
        return Scores([len(words & set(passage.split())) / len(words) for passage in passages], tokens=7)


@pytest.fixture
def settings() -> RerankerSettings:
    return RerankerSettings.model_validate({"identity_secret": SECRET})


@pytest.fixture
def client_of(settings: RerankerSettings) -> Callable[[Scorer], httpx2.AsyncClient]:
    """A client of a reranker over a scorer, with an identity."""

    def make(scorer: Scorer) -> httpx2.AsyncClient:
        headers = {IDENTITY_HEADER: Signer(SECRET).sign(Identity("a", "test"))}
        transport = httpx2.ASGITransport(create(settings, scorer))
        return httpx2.AsyncClient(transport=transport, base_url="http://reranker", headers=headers)

    return make


@pytest.fixture
def client(client_of: Callable[[Scorer], httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return client_of(Overlap())
