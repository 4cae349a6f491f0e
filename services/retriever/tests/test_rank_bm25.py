"""Qdrant's BM25 beside rank-bm25, the reference implementation of the ablations, on the same tokens.

They differ in three things, and in nothing else:
- IDF. Qdrant takes Lucene's ln(1 + (n - df + 0.5) / (df + 0.5)), always positive. rank-bm25's Okapi has no "1 +";
  a term in more than half of the documents would count against them, and gets a quarter of the mean IDF instead.
- Average length. Qdrant takes it from the client (`AVERAGE_LENGTH`), rank-bm25 from its corpus.
- Words. Qdrant's embedder lower-cases, stems and drops stop words; rank-bm25 leaves that to its caller.
"""

import math
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from capstan.retriever.edge_store import EdgeStore
from capstan.retriever.lexical import AVERAGE_LENGTH, Lexicon
from capstan.retriever.store import Fusion, NewPoint, Payload, SearchPlan

K, B = 1.2, 0.75
WORDS = [f"word{n}" for n in range(300)]  # no stop words, nothing to stem
ZIPF = [1 / (n + 1) for n in range(300)]


def texts(count: int) -> list[list[str]]:
    """Documents of 40 to 160 words, some words common and most rare, as in a language."""
    chance = random.Random(0)
    return [chance.choices(WORDS, ZIPF, k=chance.randint(40, 160)) for _ in range(count)]


CORPUS = texts(200)
FREQUENCY = Counter(word for words in CORPUS for word in set(words))  # documents with the word
USUAL = sorted(word for word, df in FREQUENCY.items() if df < len(CORPUS) / 4)  # as words that are no stop words are
QUERIES = [random.Random(n).sample(USUAL, 3) for n in range(40)]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    store = EdgeStore(tmp_path / "store", 4)
    await add(store, [" ".join(words) for words in CORPUS])
    yield store
    await store.close()


async def add(store: EdgeStore, documents: list[str]) -> None:
    lexicon = Lexicon()
    points = []
    for n, text in enumerate(documents):
        payload = Payload("a", str(n), "r", "", [], text, 0, 1)
        points.append(NewPoint(str(uuid.uuid4()), payload, lexicon.document(text)))
    await store.upsert(points)


async def scores(store: EdgeStore, query: str) -> dict[int, float]:
    """Qdrant's score of each document that matches."""
    plan = SearchPlan(("a",), 1000, Lexicon().query(query), None, None, Fusion())
    return {int(hit.payload.document_id): hit.score for hit in await store.search(plan)}


def rank_correlation(left: list[float], right: list[float]) -> float:
    """Spearman's, of scores without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (left, right)]
    return float(np.corrcoef(*ranks)[0, 1])


async def test_qdrant_ranks_nearly_as_rank_bm25_does(store: EdgeStore) -> None:
    reference = BM25Okapi(CORPUS, k1=K, b=B)
    correlations, same_ten = [], []
    for query in QUERIES:
        ours = await scores(store, " ".join(query))
        theirs = reference.get_scores(query)
        correlations.append(rank_correlation(list(ours.values()), [theirs[n] for n in ours]))
        best = [sorted(ours, key=lambda n: -values[n])[:10] for values in (ours, theirs)]
        same_ten.append(len(set(best[0]) & set(best[1])) / 10)
    assert min(correlations) > 0.95
    assert np.mean(correlations) > 0.99
    assert np.mean(same_ten) > 0.95


async def test_idf_and_average_length_are_all_that_differs(store: EdgeStore) -> None:
    """With both made the same, so is every score."""
    reference = BM25Okapi(CORPUS, k1=K, b=B)
    n = len(CORPUS)
    reference.idf = {word: math.log(1 + (n - df + 0.5) / (df + 0.5)) for word, df in FREQUENCY.items()}
    reference.avgdl = AVERAGE_LENGTH
    for query in [*QUERIES, WORDS[:3]]:  # the most common words, too
        theirs = reference.get_scores(query)
        ours = await scores(store, " ".join(query))
        assert ours.keys() == {n for n, score in enumerate(theirs) if score}
        for n, score in ours.items():
            assert score == pytest.approx(theirs[n], rel=1e-4)


async def test_qdrant_finds_other_forms_of_a_word_and_rank_bm25_only_the_same(tmp_path: Path) -> None:
    documents = ["Replication slots keep the log", "A slot for replicating", "nothing of it here"]
    store = EdgeStore(tmp_path / "stemmed", 4)
    await add(store, documents)
    assert set(await scores(store, "replicated slots")) == {0, 1}
    reference = BM25Okapi([document.split() for document in documents], k1=K, b=B)
    assert [bool(score) for score in reference.get_scores(["replicated", "slots"])] == [True, False, False]
    await store.close()
