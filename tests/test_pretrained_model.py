"""A model that the pretraining job made answers through the gateway, under its name, what the training code would."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training-jobs/requirements/reranker.txt is not installed")

import httpx2
import torch
import yaml
from running_stack import RunningStack

from capstan.jobs.pretrain.export import export
from capstan.jobs.pretrain.model import Decoder
from capstan.jobs.pretrain.pack import Rows, pack
from capstan.jobs.pretrain.recipe import Recipe
from capstan.jobs.pretrain.tokenizer import save, train_tokenizer
from capstan.jobs.pretrain.train import Run, train
from capstan.jobs.pretrain.world import ALONE
from capstan.native.stack import free_ports, identity_secret
from capstan.native.supervisor import Service

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]  # of libraries that are not ours
NAME = "capstan-55m"
PROMPT = "# pipe(2)\n\nA pipe is a"
TEXTS = [
    "# pipe(2)\n\nA pipe is a unidirectional data channel that can be used for interprocess communication.\n",
    "# open(2)\n\nThe open system call opens the file that a path names and returns a file descriptor.\n",
] * 40
RECIPE = Recipe.model_validate(
    {
        "name": NAME,
        "vocabulary": 320,
        "context": 64,
        "model": {"depth": 2},
        "training": {
            "tokens": 25 * 512,
            "batch_tokens": 512,
            "micro_rows": 8,
            "precision": "fp32",
            "compile": False,
        },
    }
)


@dataclass
class Pretrained:
    """A trained model, as we have it and as the gateway serves it."""

    model: Any
    tokenizer: Any
    gateway: str
    key: str

    def greedy(self, prompt: str, count: int) -> str:
        """The continuation by the training code."""
        tokens = self.tokenizer.encode(prompt).ids
        for _ in range(count):
            tokens.append(int(self.model(torch.tensor([tokens]))[0, -1].argmax()))
        return str(self.tokenizer.decode(tokens[-count:]))


@pytest.fixture(scope="module")
def pretrained(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretrained]:
    directory = tmp_path_factory.mktemp("pretrained")
    tokenizer = train_tokenizer(TEXTS, 320)
    save(tokenizer, directory / "tokenizer.json")
    for split in ("train", "validation"):
        pack(TEXTS, tokenizer, RECIPE.context, directory / f"{split}.bin")
    rows = Rows(directory / "train.bin"), Rows(directory / "validation.bin")
    model = train(RECIPE, 320, rows, Run(directory, ALONE, say=lambda _: None))
    assert isinstance(model, Decoder)
    artifact = directory / "artifact"
    export(model, directory / "tokenizer.json", torch.arange(1, 31)[None], artifact, lambda _: ("# card", {}))
    with torch.no_grad():
        yield from _serve(stack, artifact, directory, model, tokenizer)


def _serve(stack: RunningStack, artifact: Path, directory: Path, model: Any, tokenizer: Any) -> Iterator[Pretrained]:
    ports = free_ports(stack.settings)
    worker, gateway = (f"http://127.0.0.1:{port}" for port in (ports.worker_port, ports.gateway_port))
    models = {"pools": {"own": {"urls": [worker]}}, "models": {NAME: {"pool": "own"}}}
    (directory / "models.yaml").write_text(yaml.safe_dump(models))
    serving = {
        "CAPSTAN_WORKER_PORT": str(ports.worker_port),
        "CAPSTAN_WORKER_MODEL": f"file:{artifact}",
        "CAPSTAN_WORKER_SERVED_MODEL_NAME": NAME,
        "CAPSTAN_WORKER_DTYPE": "float32",
        "CAPSTAN_WORKER_TOOL_PARSER": "",
        "CAPSTAN_WORKER_KV_CACHE_GIB": "1",
    }
    edge = {
        "CAPSTAN_IDENTITY_SECRET": identity_secret(stack.settings.state),
        "CAPSTAN_GATEWAY_PORT": str(ports.gateway_port),
        "CAPSTAN_GATEWAY_MODELS_FILE": str(directory / "models.yaml"),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(stack.settings.state / "keys.yaml"),
    }
    run = (str(stack.settings.worker_python), "-m", "capstan.worker")
    stack.start_beside(Service("pretrained-worker", run, serving, f"{worker}/health"))
    try:
        run = (str(stack.settings.services_python), "-m", "capstan.gateway")
        stack.start_beside(Service("pretrained-gateway", run, edge, f"{gateway}/readyz"))
        yield Pretrained(model.eval(), tokenizer, gateway, stack.key)
        stack.drain("pretrained-gateway")
    finally:
        stack.drain("pretrained-worker")


def ask(pretrained: Pretrained, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {pretrained.key}"}
    with httpx2.Client(base_url=pretrained.gateway, headers=headers, timeout=120, trust_env=False) as http:
        response = http.post(path, json=body) if body else http.get(path)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def test_it_completes_text_as_the_training_code_does(pretrained: Pretrained) -> None:
    body = {"model": NAME, "prompt": PROMPT, "max_tokens": 24, "temperature": 0, "ignore_eos": True}
    answer = ask(pretrained, "/v1/completions", body)
    assert answer["model"] == NAME
    assert answer["choices"][0]["text"] == pretrained.greedy(PROMPT, 24)
    assert answer["usage"]["prompt_tokens"] == len(pretrained.tokenizer.encode(PROMPT).ids)


def test_it_stops_where_a_document_ends(pretrained: Pretrained) -> None:
    """The boundary between documents is the token that ends a text."""
    body = {"model": NAME, "prompt": TEXTS[0], "max_tokens": 24, "temperature": 0}
    choice = ask(pretrained, "/v1/completions", body)["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")


def test_clients_find_it_by_its_name(pretrained: Pretrained) -> None:
    assert [model["id"] for model in ask(pretrained, "/v1/models")["data"]] == [NAME]
