"""An adapter by its name, from the gateway to the worker; and documents whose answers it writes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import yaml
from running_stack import RunningStack

from capstan.native.settings import NativeSettings
from capstan.native.stack import ASSISTANT, LLM, StackError, free_ports, identity_secret, services
from capstan.native.supervisor import Service

CHAT = [{"role": "user", "content": "Which system call creates a pipe?"}]
SHORT = [{"role": "system", "content": "Answer."}, *CHAT]
"""Shorter than a block of the prefix cache: computed anew, and so to the same bits, whenever it is asked."""
RANK = 8
Ask = Callable[[str], dict[str, Any]]


def write_adapter(directory: Path, *, layers: int, width: int, seed: int) -> Path:
    """A LoRA adapter as PEFT writes it, with random weights on the queries: it changes whatever the model says."""
    from safetensors.numpy import save_file

    draw = np.random.default_rng(seed)
    shapes = {"lora_A": (RANK, width), "lora_B": (width, RANK)}
    weights = {
        f"base_model.model.model.layers.{n}.self_attn.q_proj.{part}.weight": draw.normal(0, 0.3, shape).astype(
            np.float32
        )
        for n in range(layers)
        for part, shape in shapes.items()
    }
    directory.mkdir()
    save_file(weights, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj"]}))
    return directory


@pytest.fixture(scope="module")
def ask(vllm_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks a model at a gateway before the stack's vLLM, which runs already and knows no adapter."""
    directory = tmp_path_factory.mktemp("adapters")
    root = Path(httpx2.get(f"{vllm_stack.url('worker')}/v1/models", trust_env=False).json()["data"][0]["root"])
    config = json.loads((root / "config.json").read_text())
    sizes = {"layers": config["num_hidden_layers"], "width": config["hidden_size"]}
    paths = {name: str(write_adapter(directory / name, **sizes, seed=n)) for n, name in enumerate(("one", "other"))}
    adapters = {name: {"pool": "llm", "adapter": path} for name, path in {**paths, "gone": "/nowhere"}.items()}
    pools = {"llm": {"urls": [vllm_stack.url("worker")]}}
    (directory / "models.yaml").write_text(
        yaml.safe_dump({"pools": pools, "models": {LLM: {"pool": "llm"}, **adapters}})
    )
    url = f"http://127.0.0.1:{free_ports(vllm_stack.settings).gateway_port}"
    environment = {
        "CAPSTAN_IDENTITY_SECRET": identity_secret(vllm_stack.settings.state),
        "CAPSTAN_GATEWAY_PORT": url.rpartition(":")[2],
        "CAPSTAN_GATEWAY_MODELS_FILE": str(directory / "models.yaml"),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(vllm_stack.settings.state / "keys.yaml"),
    }
    command = (str(vllm_stack.settings.services_python), "-m", "capstan.gateway")
    vllm_stack.start_beside(Service("adapters-gateway", command, environment, f"{url}/readyz"))
    headers = {"authorization": f"Bearer {vllm_stack.key}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:

        def chat(model: str) -> dict[str, Any]:
            body = {"model": model, "messages": SHORT, "max_tokens": 12, "temperature": 0}
            response = client.post("/v1/chat/completions", json=body)
            return {"status": response.status_code, **response.json()}

        yield chat
    vllm_stack.drain("adapters-gateway")


@pytest.mark.vllm
def test_a_running_worker_takes_an_adapter_when_its_name_is_asked_for(ask: Ask) -> None:
    """One slot, two adapters: each is what its name says, whatever was asked before; the base model stays itself."""
    said: dict[str, set[str]] = {LLM: set(), "one": set(), "other": set()}
    for model in (LLM, "one", "other", "one", LLM):
        answer = ask(model)
        assert (answer["status"], answer["model"]) == (200, model), answer
        said[model].add(answer["choices"][0]["message"]["content"])
    assert [len(texts) for texts in said.values()] == [1, 1, 1]
    assert len(set().union(*said.values())) == 3


@pytest.mark.vllm
def test_an_adapter_that_is_not_there_is_named(ask: Ask) -> None:
    answer = ask("gone")
    assert answer["status"] in (502, 503)
    assert "gone" in answer["error"]["message"]


@pytest.fixture(scope="module")
def assisted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The native stack as CAPSTAN_NATIVE_ADAPTER makes it; a simulated worker only looks that it is there."""
    directory = tmp_path_factory.mktemp("assisted")
    adapter = write_adapter(directory / "adapter", layers=1, width=8, seed=0)
    running = RunningStack(directory / "state", simulate=True, adapter=adapter).start()
    yield running
    running.stop()


def test_documents_are_answered_by_the_adapter_and_the_base_model_stays_an_arm(assisted: RunningStack) -> None:
    with assisted.client() as client:
        names = {model["id"] for model in client.get("/v1/models").json()["data"]}
        assert {"docs", "docs:assistant", "docs:base", LLM, ASSISTANT} <= names
        for model, llm in (("docs", ASSISTANT), ("docs:assistant", ASSISTANT), ("docs:base", LLM)):
            answer = client.post("/v1/chat/completions", json={"model": model, "messages": CHAT}).json()
            details = answer["capstan"]
            assert (details["llm"], details["mode"]) == (llm, "generated"), details["note"]
    served = httpx2.get(f"{assisted.url('worker')}/v1/models", trust_env=False).json()["data"]
    assert {model["id"] for model in served} == {LLM, ASSISTANT}


def test_a_directory_without_an_adapter_is_said_before_anything_starts(stack: RunningStack, tmp_path: Path) -> None:
    settings: NativeSettings = stack.settings.model_copy(update={"adapter": tmp_path})
    with pytest.raises(StackError, match=r"CAPSTAN_NATIVE_ADAPTER.*adapter_config"):
        services(settings)
