"""Retrieval metrics of one question, with binary relevance: a document is linked from the reference answer, or not.

Search returns chunks. For metrics over documents a ranking's chunks collapse to their documents, each at its first
chunk's place. Every metric is in 0..1, and a question always has at least one gold document.
"""

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

BUCKETS = ("rank1", "top10", "top100", "lost")


def documents_of(chunk_documents: Sequence[str]) -> list[str]:
    """The documents of a ranking of chunks, each once, at its first chunk's place."""
    return list(dict.fromkeys(chunk_documents))


def ndcg(documents: Sequence[str], gold: AbstractSet[str], k: int = 10) -> float:
    """Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002): gains 0 and 1, discount log2(1 + rank)."""
    gain = sum(1 / math.log2(rank + 1) for rank, document in enumerate(documents[:k], 1) if document in gold)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(gold)) + 1))
    return gain / ideal


def recall(documents: Sequence[str], gold: AbstractSet[str], k: int) -> float:
    """Share of the gold documents among the first `k`."""
    return len(gold & set(documents[:k])) / len(gold)


def reciprocal_rank(documents: Sequence[str], gold: AbstractSet[str]) -> float:
    """1 / rank of the first gold document, 0 if there is none."""
    return next((1 / rank for rank, document in enumerate(documents, 1) if document in gold), 0.0)


def success(documents: Sequence[str], gold: AbstractSet[str], k: int = 1) -> float:
    """1 if a gold document is among the first `k`."""
    return float(bool(gold & set(documents[:k])))


def context_precision(chunk_documents: Sequence[str], gold: AbstractSet[str]) -> float:
    """RAGAS's rank-aware context precision, a chunk being relevant if its document is gold.

    The mean of precision@k over the ranks k of relevant chunks; 0 if none is relevant. Recall plays no part in it.
    """
    relevant = 0
    total = 0.0
    for rank, document in enumerate(chunk_documents, 1):
        if document in gold:
            relevant += 1
            total += relevant / rank
    return total / relevant if relevant else 0.0


def bucket(documents: Sequence[str], gold: AbstractSet[str]) -> str:
    """Where the first gold document is: rank1, top10, top100, or lost."""
    rank = next((rank for rank, document in enumerate(documents, 1) if document in gold), math.inf)
    return "rank1" if rank == 1 else "top10" if rank <= 10 else "top100" if rank <= 100 else "lost"


def retrieval_metrics(chunk_documents: Sequence[str], gold: AbstractSet[str], passages: int) -> dict[str, float]:
    """All retrieval metrics of one ranking; context precision is that of the first `passages` chunks."""
    documents = documents_of(chunk_documents)
    return {
        "ndcg10": ndcg(documents, gold, 10),
        "recall5": recall(documents, gold, 5),
        "recall10": recall(documents, gold, 10),
        "mrr": reciprocal_rank(documents, gold),
        "success1": success(documents, gold, 1),
        "context_precision": context_precision(chunk_documents[:passages], gold),
    }
