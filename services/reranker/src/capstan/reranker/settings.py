"""Settings of the reranker: one environment variable each, documented in the README."""

import os

from pydantic import Field

from capstan.common.settings import Port, ServiceSettings, settings_config


class RerankerSettings(ServiceSettings):
    """`CAPSTAN_RERANKER_<NAME>`, read once at start."""

    model_config = settings_config("reranker")

    port: Port = Field(8002, description="Port to listen on.")
    model: str = Field(
        "hf:BAAI/bge-reranker-base",
        description="Model reference: a cross-encoder, or a BERT sentence encoder for late interaction.",
    )
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="Threads that score passages.")
    passage_tokens: int = Field(128, ge=16, le=8192, description="Most tokens of a passage that are read.")
    cache_passages: int = Field(
        512, ge=0, description="Passages whose token vectors are remembered (late interaction; about 150 KB each)."
    )
    support: float = Field(
        1.0, ge=0, le=10, description="How much passages of one group support each other, in logits; 0: not at all."
    )
    max_documents: int = Field(200, ge=1, description="Most passages in one request.")
    max_document_chars: int = Field(20_000, ge=1, description="Longest passage.")
    max_query_chars: int = Field(4000, ge=1, description="Longest query.")
    max_waiting: int = Field(16, ge=1, description="Requests in work or waiting; one more is answered with 503.")
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="Largest request body, counted as it streams.")
