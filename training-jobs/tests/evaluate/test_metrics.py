"""The metrics against their definitions, written out as slowly as the papers have them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.jobs.evaluate.metrics import (
    bucket,
    context_precision,
    documents_of,
    ndcg,
    recall,
    reciprocal_rank,
    retrieval_metrics,
    success,
)

DOCUMENTS = st.sampled_from([f"d{n}" for n in range(12)])
RANKING = st.lists(DOCUMENTS, unique=True, max_size=12)
CHUNKS = st.lists(DOCUMENTS, max_size=30)
GOLD = st.frozensets(DOCUMENTS, min_size=1, max_size=8)


def dcg(gains: list[int]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


@given(RANKING, GOLD, st.integers(1, 12))
def test_ndcg_is_the_gain_over_that_of_the_best_possible_ranking(ranking: list[str], gold: frozenset[str], k: int):
    gains = [int(document in gold) for document in ranking[:k]]
    ideal = sorted((int(document in gold) for document in [f"d{n}" for n in range(12)]), reverse=True)[:k]
    assert ndcg(ranking, gold, k) == pytest.approx(dcg(gains) / dcg(ideal))
    assert 0 <= ndcg(ranking, gold, k) <= 1 + 1e-12


@given(RANKING, GOLD, st.integers(1, 12))
def test_recall_and_success_count_gold_documents_in_the_first_k(ranking: list[str], gold: frozenset[str], k: int):
    found = [document for document in gold if document in ranking[:k]]
    assert recall(ranking, gold, k) == pytest.approx(len(found) / len(gold))
    assert success(ranking, gold, k) == (1.0 if found else 0.0)


@given(RANKING, GOLD)
def test_the_reciprocal_rank_is_that_of_the_first_gold_document(ranking: list[str], gold: frozenset[str]):
    ranks = [ranking.index(document) + 1 for document in gold if document in ranking]
    assert reciprocal_rank(ranking, gold) == (1 / min(ranks) if ranks else 0)


@given(CHUNKS, GOLD)
def test_context_precision_is_the_mean_of_precision_at_relevant_ranks(chunks: list[str], gold: frozenset[str]):
    # RAGAS: sum over k of precision@k * v_k, over the number of relevant items in the top K.
    v = [int(chunk in gold) for chunk in chunks]
    at = [sum(v[: k + 1]) / (k + 1) for k in range(len(v))]
    expected = sum(p * relevant for p, relevant in zip(at, v, strict=True)) / sum(v) if any(v) else 0.0
    assert context_precision(chunks, gold) == pytest.approx(expected)


@given(CHUNKS)
def test_chunks_collapse_to_documents_at_their_first_place(chunks: list[str]):
    documents = documents_of(chunks)
    assert sorted(documents) == sorted(set(chunks))
    assert [chunks.index(document) for document in documents] == sorted(chunks.index(d) for d in documents)


def test_context_precision_looks_at_the_passages_only_and_the_rest_at_all_chunks():
    metrics = retrieval_metrics(["a", "b", "b", "gold"], frozenset({"gold"}), passages=3)
    assert metrics["context_precision"] == 0
    assert metrics["mrr"] == pytest.approx(1 / 3)  # a, b, gold: two documents stand before it, not three chunks


@pytest.mark.parametrize(
    ("rank", "name"), [(1, "rank1"), (2, "top10"), (10, "top10"), (11, "top100"), (100, "top100"), (101, "lost")]
)
def test_a_miss_is_named_by_the_rank_of_the_first_gold_document(rank: int, name: str):
    documents = [f"other{n}" for n in range(rank - 1)] + ["gold"]
    assert bucket(documents, frozenset({"gold"})) == name


def test_a_gold_document_that_is_nowhere_is_lost():
    assert bucket(["a", "b"], frozenset({"gold"})) == "lost"
