"""ragas' metrics as functions of a sample. Imports ragas: only in its own environment."""

import asyncio
import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import httpx2
from openai import AsyncOpenAI
from ragas.embeddings.base import BaseRagasEmbedding  # type: ignore[import-not-found]
from ragas.llms import llm_factory  # type: ignore[import-not-found]
from ragas.metrics import (  # type: ignore[import-not-found]
    ExactMatch,
    IDBasedContextPrecision,
    IDBasedContextRecall,
    NonLLMContextPrecisionWithReference,
    NonLLMContextRecall,
)
from ragas.metrics.collections import (  # type: ignore[import-not-found]
    AnswerRelevancy,
    ContextPrecision,
    ContextRecall,
    Faithfulness,
    QuotedSpansAlignment,
    SemanticSimilarity,
)
from ragas.metrics.collections.quoted_spans.util import extract_quoted_spans  # type: ignore[import-not-found]

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.common.provenance import provenance
from capstan.jobs.evaluate.ragas_rows import NotApplicable, Sample, Score


class RetrieverEmbeddings(BaseRagasEmbedding):  # type: ignore[misc]
    """The retriever's own embedder, over its OpenAI-shaped route."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._client = httpx2.Client(base_url=url, timeout=60)
        self._signer = Signer(os.environ["CAPSTAN_IDENTITY_SECRET"])

    def embed_text(self, text: str, **_: Any) -> list[float]:
        """One text."""
        return self.embed_texts([text])[0]

    def embed_texts(self, texts: Sequence[str], **_: Any) -> list[list[float]]:
        """At most 64 texts."""
        headers = {IDENTITY_HEADER: self._signer.sign(Identity("evaluate", "evaluate"))}
        response = self._client.post("/v1/embeddings", json={"input": list(texts)}, headers=headers)
        response.raise_for_status()
        return [row["embedding"] for row in response.json()["data"]]

    async def aembed_text(self, text: str, **_: Any) -> list[float]:
        """One text, in a thread."""
        return await asyncio.to_thread(self.embed_text, text)

    async def aembed_texts(self, texts: Sequence[str], **_: Any) -> list[list[float]]:
        """At most 64 texts, in a thread."""
        return await asyncio.to_thread(self.embed_texts, texts)


def embeddings(url: str) -> RetrieverEmbeddings:
    """Embeddings for the metrics that need them."""
    return RetrieverEmbeddings(url)


def versions() -> dict[str, Any]:
    """Where the figures come from."""
    return {**provenance(), "ragas": version("ragas"), "measured": int(time.time())}


def without_judge(vectors: RetrieverEmbeddings | None) -> dict[str, Score]:
    """Metrics that need no language model; `rank_aware_context_precision` is ragas' definition on document ids."""
    precision, recall = IDBasedContextPrecision(), IDBasedContextRecall()
    ranked = NonLLMContextPrecisionWithReference(distance_measure=ExactMatch())
    strings = NonLLMContextRecall()
    quotes = QuotedSpansAlignment()

    async def of_ids(metric: Any, sample: Sample) -> float:
        row = {"retrieved_context_ids": sample["context_ids"], "reference_context_ids": sample["reference_ids"]}
        return float(await metric._ascore(_needs(row, "retrieved_context_ids"), None))

    async def rank_aware(sample: Sample) -> float:
        row = {"retrieved_contexts": sample["context_ids"], "reference_contexts": sample["reference_ids"]}
        return float(await ranked._ascore(_needs(row, "retrieved_contexts"), None))

    async def string_recall(sample: Sample) -> float:
        row = {"retrieved_contexts": sample["contexts"], "reference_contexts": sample["reference_contexts"]}
        return float(await strings._ascore(_needs(row, "retrieved_contexts", "reference_contexts"), None))

    async def quoted(sample: Sample) -> float:
        if not extract_quoted_spans(sample["response"]):
            raise NotApplicable  # ragas says 1.0
        result = await quotes.ascore(response=sample["response"], retrieved_contexts=sample["contexts"])
        return float(result.value)

    metrics: dict[str, Score] = {
        "id_context_precision": lambda sample: of_ids(precision, sample),
        "id_context_recall": lambda sample: of_ids(recall, sample),
        "rank_aware_context_precision": rank_aware,
        "non_llm_context_recall": string_recall,
        "quoted_spans_alignment": quoted,
    }
    if vectors is not None:
        similarity = SemanticSimilarity(embeddings=vectors)

        async def similar(sample: Sample) -> float:
            texts = {"reference": sample["reference"], "response": sample["response"]}
            return float((await similarity.ascore(**texts)).value)

        metrics["semantic_similarity"] = similar
    return metrics


def with_judge(url: str, model: str, key: str, vectors: RetrieverEmbeddings | None, *, tokens: int) -> dict[str, Score]:
    """Metrics that ask a judge. Answer relevancy needs embeddings as well."""
    client = AsyncOpenAI(base_url=url, api_key=key, timeout=120, max_retries=1)
    llm = llm_factory(model, client=client, max_tokens=tokens)
    faithfulness, precision, recall = Faithfulness(llm=llm), ContextPrecision(llm=llm), ContextRecall(llm=llm)

    async def faithful(sample: Sample) -> float:
        texts = {"user_input": sample["question"], "response": sample["response"]}
        return float((await faithfulness.ascore(**texts, retrieved_contexts=_contexts(sample))).value)

    async def precise(sample: Sample) -> float:
        texts = {"user_input": sample["question"], "reference": sample["reference"]}
        return float((await precision.ascore(**texts, retrieved_contexts=_contexts(sample))).value)

    async def recalled(sample: Sample) -> float:
        texts = {"user_input": sample["question"], "reference": sample["reference"]}
        return float((await recall.ascore(**texts, retrieved_contexts=_contexts(sample))).value)

    metrics: dict[str, Score] = {
        "faithfulness": faithful,
        "context_precision": precise,
        "context_recall": recalled,
    }
    if vectors is not None:
        relevancy = AnswerRelevancy(llm=llm, embeddings=vectors)

        async def relevant(sample: Sample) -> float:
            return float((await relevancy.ascore(user_input=sample["question"], response=sample["response"])).value)

        metrics["answer_relevancy"] = relevant
    return metrics


def _contexts(sample: Sample) -> list[str]:
    if not sample["contexts"]:
        raise NotApplicable
    return list(sample["contexts"])


def _needs(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """A row whose named fields are not empty."""
    if not all(row[name] for name in names):
        raise NotApplicable
    return row
