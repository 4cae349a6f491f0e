"""Settings of the generator."""

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
    candidates: int = Field(24, ge=1, le=200, description="Chunks taken from the retriever for reranking.")
    passages: int = Field(4, ge=1, le=20, description="Most passages given to the language model.")
    min_relevance: float = Field(
        0.0, ge=0, le=1, description="Best reranker score under which the evidence is too thin to answer."
    )
    min_support: float = Field(
        0.6, gt=0, le=1, description="Share of a sentence's words that a passage must hold to be cited for it."
    )
    grounding: Literal["mark", "strict"] = Field(
        "mark", description="mark: show every sentence, cite those supported. strict: show only those supported."
    )
    llm_timeout_s: float = Field(120.0, gt=0, description="Seconds to wait for the language model's next bytes.")
