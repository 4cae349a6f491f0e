"""Settings of the native runner."""

from pathlib import Path

from pydantic import Field, field_validator

from capstan.common.settings import CommonSettings, Port, settings_config


class NativeSettings(CommonSettings):
    """`CAPSTAN_NATIVE_*`, most of them set by `native/bootstrap.py`; ports under the services' own names."""

    model_config = settings_config("native")

    root: Path = Field(description="The checkout.")
    state_dir: Path | None = Field(None, description="Index, keys and logs; default: .capstan in the checkout.")
    corpus_dir: Path = Field(description="The documents that are loaded.")
    services_python: Path = Field(description="Interpreter of the services' environment.")
    worker_python: Path = Field(description="Interpreter of the vLLM environment.")
    jobs_python: Path = Field(description="Interpreter of the jobs' environment.")
    ragas_python: Path | None = Field(None, description="Interpreter of the ragas environment, for the evaluation.")
    setup_s: float = Field(0.0, ge=0, description="Seconds that the set-up before this process took.")
    adapter: Path | None = Field(
        None, description="Directory of a LoRA adapter that writes the answers, as the model capstan-assistant."
    )
    simulate: bool = Field(False, description="Serve the simulated model instead of vLLM.")
    logs: bool = Field(False, description="Show every log line of every service, not only warnings.")
    start_timeout_s: float = Field(300.0, gt=0, description="Longest wait for a service to become ready.")

    gateway_port: Port = Field(8000, validation_alias="CAPSTAN_GATEWAY_PORT", description="Port of the gateway.")
    retriever_port: Port = Field(8001, validation_alias="CAPSTAN_RETRIEVER_PORT", description="Port of the retriever.")
    reranker_port: Port = Field(8002, validation_alias="CAPSTAN_RERANKER_PORT", description="Port of the reranker.")
    generator_port: Port = Field(8003, validation_alias="CAPSTAN_GENERATOR_PORT", description="Port of the generator.")
    worker_port: Port = Field(8004, validation_alias="CAPSTAN_WORKER_PORT", description="Port of the vLLM worker.")

    @field_validator("adapter", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @property
    def state(self) -> Path:
        """Where this stack keeps index, keys and logs."""
        return self.state_dir or self.root / ".capstan"
