import dataclasses
import json
import logging.config
import sys
from pathlib import Path

import pytest

from capstan.worker.command import NO_DOMAIN, Command, build
from capstan.worker.machine import Machine
from capstan.worker.settings import WorkerSettings

AVX2 = Machine(device="cpu", bf16=False, cores=2, numa_nodes=1, openmp=Path("/env/lib/libiomp5.so"))
AVX512_BF16 = dataclasses.replace(AVX2, bf16=True)
CUDA = dataclasses.replace(AVX2, device="cuda")
TWO_SOCKETS = dataclasses.replace(AVX2, numa_nodes=2, cores=64)


def command(machine: Machine = AVX2, environ: dict[str, str] | None = None, **settings: object) -> Command:
    return build(WorkerSettings.model_validate(settings), Path("/models/m"), {}, machine, environ or {})


def value(command: Command, flag: str) -> str:
    return command.argv[command.argv.index(flag) + 1]


def test_runs_vllm_s_server_with_this_interpreter_so_that_the_environment_is_the_same():
    assert command().argv[:5] == [sys.executable, "-m", "capstan.worker.launch", "--model", "/models/m"]


@pytest.mark.parametrize(("machine", "dtype"), [(AVX2, "float32"), (AVX512_BF16, "bfloat16"), (CUDA, "auto")])
def test_number_format_follows_the_hardware(machine, dtype):
    assert value(command(machine), "--dtype") == dtype


@pytest.mark.parametrize("machine", [AVX2, CUDA])
def test_number_format_can_be_given(machine):
    assert value(command(machine, dtype="float16"), "--dtype") == "float16"


def test_cuda_gets_compilation_and_no_cpu_variables():
    cuda = command(CUDA)

    assert "--enforce-eager" not in cuda.argv
    assert not [name for name in cuda.env if name.startswith(("VLLM_CPU", "OMP", "KMP", "LD_"))]


def test_device_can_be_forced():
    assert "--enforce-eager" in command(CUDA, device="cpu").argv


@pytest.mark.parametrize("machine", [AVX2, CUDA])
def test_prefix_cache_and_drain_are_on_everywhere(machine):
    built = command(machine, drain_s=12.5)

    assert "--enable-prefix-caching" in built.argv
    assert value(built, "--shutdown-timeout") == "13"  # vLLM takes whole seconds; never less than asked for


@pytest.mark.parametrize("machine", [AVX2, CUDA])
def test_nothing_is_fetched_or_reported(machine):
    assert command(machine).env.items() >= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}.items()


@pytest.mark.parametrize("machine", [AVX2, CUDA])
def test_urls_in_requests_are_not_fetched_unless_the_operator_names_their_domain(machine):
    assert value(command(machine), "--allowed-media-domains") == NO_DOMAIN
    assert command(machine).env["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"
    allowed = command(machine, engine_args="--allowed-media-domains images.example.com")
    assert allowed.argv[-2:] == ["--allowed-media-domains", "images.example.com"]  # the last one wins


def test_vllm_joins_traces_where_there_is_a_collector():
    assert "--otlp-traces-endpoint" not in command().argv
    built = command(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"})
    assert value(built, "--otlp-traces-endpoint") == "http://collector:4318/v1/traces"
    assert built.env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert built.env["OTEL_SERVICE_NAME"] == "capstan-worker"


def test_vllm_logs_as_the_services_do(capsys):
    config = json.loads(Path(command().env["VLLM_LOGGING_CONFIG_PATH"]).read_text())
    before, level = logging.root.handlers[:], logging.root.level
    try:
        logging.config.dictConfig(config)
        logging.getLogger("vllm.engine").info("ready")
    finally:
        logging.root.handlers[:] = before
        logging.root.setLevel(level)
    line = json.loads(capsys.readouterr().out)
    assert (line["service"], line["level"], line["msg"]) == ("worker", "info", "ready")


def test_one_numa_node_runs_in_one_process_on_all_cores():
    built = command(AVX2)

    assert value(built, "--distributed-executor-backend") == "uni"
    assert built.env["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize("engine_args", ["--tensor-parallel-size 2", "-tp=2", "--distributed-executor-backend mp"])
def test_ranks_are_left_to_vllm(engine_args):
    built = command(AVX2, engine_args=engine_args)

    assert "uni" not in built.argv
    assert "OMP_NUM_THREADS" not in built.env


def test_several_numa_nodes_are_left_to_vllm():
    assert "uni" not in command(TWO_SOCKETS).argv


def test_more_arguments_come_last_so_that_they_win():
    built = command(engine_args="--quantization awq --block-size 64 --served-model-name 'two words'")

    assert built.argv[-6:] == ["--quantization", "awq", "--block-size", "64", "--served-model-name", "two words"]
    assert built.argv.count("--block-size") == 1


@pytest.mark.parametrize("machine", [AVX2, CUDA])
def test_tools_are_on_and_the_model_s_own_format_can_be_named(machine):
    assert "--enable-auto-tool-choice" in command(machine).argv
    assert value(command(machine, tool_parser="llama3_json"), "--tool-call-parser") == "llama3_json"


def test_tools_can_be_turned_off():
    built = command(tool_parser="")

    assert not {"--enable-auto-tool-choice", "--tool-call-parser"} & set(built.argv)


def test_lora_is_off_unless_asked_for():
    assert "--enable-lora" not in command().argv


def test_slots_without_adapters_allow_loading_later():
    built = command(lora_slots=2, max_lora_rank=8)

    assert (value(built, "--max-loras"), value(built, "--max-lora-rank")) == ("2", "8")
    assert built.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"


def test_adapters_are_served_from_the_start():
    adapters = {"a": Path("/a"), "b": Path("/b")}
    built = build(WorkerSettings(), Path("/m"), adapters, AVX2, {})

    assert value(built, "--max-loras") == "2"
    assert built.argv[built.argv.index("--lora-modules") + 1 :][:2] == ["a=/a", "b=/b"]


def test_what_the_operator_set_stays():
    built = command(environ={"OMP_NUM_THREADS": "1", "LD_PRELOAD": "/lib/tcmalloc.so"})

    assert "OMP_NUM_THREADS" not in built.env
    assert built.env["LD_PRELOAD"] == "/env/lib/libiomp5.so:/lib/tcmalloc.so"


def test_without_the_openmp_library_nothing_is_preloaded():
    assert "LD_PRELOAD" not in command(dataclasses.replace(AVX2, openmp=None)).env


def test_prints_as_a_line_for_the_shell():
    assert str(Command(["python", "a b"], {"X": "1"})) == "env X=1 python 'a b'"
