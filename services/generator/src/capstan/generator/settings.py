"""Settings of the generator."""

from pathlib import Path
from typing import Literal

from pydantic import Field, HttpUrl

from capstan.common.settings import Port, ServiceSettings, settings_config


class GeneratorSettings(ServiceSettings):
    """`CAPSTAN_GENERATOR_*`; what is shared by all services is in `ServiceSettings`."""

    model_config = settings_config("generator")

    port: Port = Field(8003, description="Port to listen on.")
    model_name: str = Field("docs", description="Name under which clients ask for cited answers.")
    gateway_url: HttpUrl = Field(description="The gateway, through which the language model is called.")
    retriever_url: HttpUrl = Field(description="The retriever.")
    reranker_url: HttpUrl = Field(description="The reranker.")
    llm: str = Field(description="Model name at the gateway that writes the answers.")
    context_tokens: int = Field(2048, ge=512, description="Context length of the language model.")
    answer_tokens: int = Field(192, ge=16, description="Longest answer where the client sets no limit, in tokens.")
    evidence_tokens: int = Field(
        1024, ge=64, description="Most tokens of passages in a prompt; less where the context leaves less."
    )
    arms_file: Path = Field(
        default_factory=lambda: Path(__file__).with_name("arms.yaml"),
        description="Named sets of options, YAML; each arm is the model `docs:<arm>`.",
    )
    candidates: int = Field(50, ge=1, le=200, description="Chunks taken from the retriever for reranking.")
    passages: int = Field(4, ge=1, le=20, description="Most passages given to the language model.")
    neighbours: int = Field(1, ge=0, le=10, description="Chunks before and after that widen a passage, if they fit.")
    per_document: int = Field(3, ge=1, le=20, description="Most passages from one document.")
    rerank_weight: float = Field(
        1.0, ge=0, le=1, description="Share of the reranker in the order; the rest is the retriever's. 1: it alone."
    )
    min_relevance: float = Field(
        0.0, ge=0, le=1, description="Best reranker score under which the evidence is too thin to answer."
    )
    min_support: float = Field(
        0.7, gt=0, le=1, description="Share of a sentence's words that a passage must hold to be cited for it."
    )
    min_extract: float = Field(
        0.4, ge=0, le=1, description="Score of the best extract under which the documents do not answer the question."
    )
    min_similarity: float = Field(
        0.5, ge=-1, le=1, description="Cosine of a sentence with its passage's closest sentence, least to be cited."
    )
    grounding: Literal["mark", "strict"] = Field(
        "mark", description="mark: show every sentence, cite those supported. strict: show only those supported."
    )
    condense: Literal["rule", "model"] = Field(
        "rule", description="How a follow-up is made a standalone question. model: one more call to the language model."
    )
    condense_timeout_s: float = Field(5.0, gt=0, description="Seconds that the model may take for that; then the rule.")
    embeddings_timeout_s: float = Field(
        5.0, gt=0, description="Seconds to wait for embeddings; without them sentences are verified by words alone."
    )
    data_dir: Path = Field(Path(".capstan/generator"), description="Where answers and feedback are kept.")
    keep_answers: int = Field(30, ge=0, description="Days for which answers are kept as history. 0: not at all.")
    llm_timeout_s: float = Field(120.0, gt=0, description="Seconds to wait for the language model's next bytes.")
