"""The vLLM command: which arguments and environment fit this machine.

The reasons behind each CPU choice, with measurements, are in the README.
"""

import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from capstan.common.telemetry import ENDPOINT
from capstan.worker.machine import Machine
from capstan.worker.settings import WorkerSettings

_SPREADING = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp")
_BACKEND = "--distributed-executor-backend"
_LOGGING = Path(__file__).with_name("vllm_logging.json")
NO_DOMAIN = "none.invalid"
"""A name that never exists (RFC 6761): vLLM takes an empty list of domains for all of them."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to exec: `argv`, and what to add to the environment."""

    argv: list[str]
    env: dict[str, str]

    def __str__(self) -> str:
        return shlex.join(["env", *(f"{name}={value}" for name, value in self.env.items()), *self.argv])


def build(
    settings: WorkerSettings, model: Path, adapters: Mapping[str, Path], machine: Machine, environ: Mapping[str, str]
) -> Command:
    """The command that serves the checkpoint in `model`. What `environ` already sets stays as it is."""
    extra = shlex.split(settings.engine_args)
    device = machine.device if settings.device == "auto" else settings.device
    argv = [sys.executable, "-m", "capstan.worker.launch", "--model", str(model)]
    argv += ["--served-model-name", settings.served_model_name, "--host", settings.host, "--port", str(settings.port)]
    argv += ["--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-server-load-tracking"]
    argv += ["--disable-uvicorn-access-log", "--max-num-seqs", str(settings.max_num_seqs)]
    argv += ["--shutdown-timeout", str(math.ceil(settings.drain_s))]
    argv += ["--allowed-media-domains", NO_DOMAIN]
    if settings.max_model_len is not None:
        argv += ["--max-model-len", str(settings.max_model_len)]
    if settings.tool_parser:
        argv += ["--enable-auto-tool-choice", "--tool-call-parser", settings.tool_parser]
    # The model is always a local directory by now, so no hub is ever asked.
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    env["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] = "0"
    env["VLLM_LOGGING_CONFIG_PATH"] = str(_LOGGING)  # JSON lines, as every service
    if collector := environ.get(ENDPOINT):
        argv += ["--otlp-traces-endpoint", f"{collector.rstrip('/')}/v1/traces"]
        env |= {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": "capstan-worker"}
    if adapters or settings.lora_slots:
        argv += _lora_args(settings, adapters)
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if device == "cuda":
        argv += ["--dtype", settings.dtype]
    else:
        argv += _cpu_args(settings, machine, extra)
        env |= _cpu_env(settings, machine, extra)
    return Command(argv + extra, _merged(env, environ))


def cpu_dtype(settings: WorkerSettings, machine: Machine) -> str:
    """The number format on a CPU: emulated bfloat16 is several times slower than float32."""
    if settings.dtype != "auto":
        return settings.dtype
    return "bfloat16" if machine.bf16 else "float32"


def _lora_args(settings: WorkerSettings, adapters: Mapping[str, Path]) -> list[str]:
    args = ["--enable-lora", "--max-loras", str(settings.lora_slots or len(adapters))]
    args += ["--max-lora-rank", str(settings.max_lora_rank)]
    if adapters:
        args += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return args


def _cpu_args(settings: WorkerSettings, machine: Machine, extra: list[str]) -> list[str]:
    args = ["--dtype", cpu_dtype(settings, machine)]
    args += ["--enforce-eager"]  # torch.compile costs minutes of start-up and gains nothing here
    if not _given(extra, "--block-size"):
        args += ["--block-size", "32"]  # the default of 128 never finds a shared prompt of a hundred tokens again
    if _in_one_process(machine, extra):
        args += [_BACKEND, "uni"]
    return args


def _cpu_env(settings: WorkerSettings, machine: Machine, extra: list[str]) -> dict[str, str]:
    env = {"VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib)}
    if machine.openmp is not None:
        env["LD_PRELOAD"] = str(machine.openmp)
        # Threads that spin between steps take the cores that other services need; 1 ms, then sleep.
        env |= {"KMP_BLOCKTIME": "1", "KMP_TPAUSE": "0"}
    if _in_one_process(machine, extra):
        # vLLM allows its in-process executor on a CPU only with this; it then leaves the threads to us.
        env |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(machine.cores)}
    return env


def _in_one_process(machine: Machine, extra: list[str]) -> bool:
    """Engine and executor in one process: one import of torch and vLLM less to wait for, and 0.5 GB less.

    With several NUMA nodes or ranks, vLLM's own executor binds each rank to its node.
    """
    return machine.numa_nodes == 1 and not _given(extra, *_SPREADING, _BACKEND)


def _given(extra: list[str], *names: str) -> bool:
    return any(argument.partition("=")[0] in names for argument in extra)


def _merged(env: dict[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """`env` without what the operator set already; preloaded libraries add up."""
    merged = {name: value for name, value in env.items() if name not in environ or name == "LD_PRELOAD"}
    if environ.get("LD_PRELOAD") and "LD_PRELOAD" in merged:
        merged["LD_PRELOAD"] += f":{environ['LD_PRELOAD']}"
    return merged
