"""No secret, and nothing of what people write, is in any log, metric or usage file of a stack that is used and misused.

Secrets are planted in everything that holds one, and so are words in prompts, documents, questions and comments. What
the suite's stacks and a gateway beside them, which logs at the level `debug` and has a Redis with a password and a
hosted API, have written is then searched. Spans are searched in test_signals.py.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from compatibility_gateway import MODEL, hosted_api
from planted_secrets import forms, found, secrets_of
from redis_server import RedisServer
from running_stack import RunningStack

from capstan.native.stack import free_ports, identity_secret
from capstan.native.supervisor import Service

GATEWAY = "gateway-with-secrets"
REDIS_PASSWORD = "redis-pass/word+4c1f09d7e2a8"
ADMIN_KEY = "admin-key-planted-86a1c0f2e94b7d53-of-the-test"
PROVIDER_KEY = "sk-provider-planted-0b9d5e7a3f2c4816"
PROVIDER_KEY_IN_THE_FILE = "sk-provider-by-mistake-71c8ee02a4d9"
WRONG_KEY = "demo-unknown.wrong-key-planted-5d0a9c3e7f1b"
WRONG_ADMIN_KEY = "wrong-admin-key-planted-2f7b1d9a0c4e"
WORDS = {name: f"xylograph-{name}-quixotry" for name in ("prompt", "document", "question", "comment", "malformed")}
"""What people write, each in a word that is nowhere else."""


@dataclass
class Planted:
    """Secrets by name, and the directories whose files are searched."""

    secrets: dict[str, str]
    logs: list[Path]
    urls: list[str]

    def written(self) -> dict[str, str]:
        """Whatever the processes have written: logs, usage; and their metrics."""
        files = [path for place in self.logs for path in [*place.glob("*.log"), *place.glob("*.jsonl")]]
        texts = {f"{path.parent.name}/{path.name}": path.read_text(errors="replace") for path in files}
        for url in self.urls:
            texts[f"{url}/metrics"] = httpx2.get(f"{url}/metrics", trust_env=False).text
        return texts


@pytest.fixture(scope="module")
def used(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """The simulated stack with a gateway beside it, after use."""
    directory = tmp_path_factory.mktemp("secrets")
    redis = RedisServer(directory, "--requirepass", REDIS_PASSWORD)
    planted = Planted(secrets_of(stack), [stack.settings.state, stack.settings.state / "logs"], [])
    planted.secrets |= {
        "Redis password": REDIS_PASSWORD,
        "planted admin key": ADMIN_KEY,
        "provider's key": PROVIDER_KEY,
        "provider's key in models.yaml": PROVIDER_KEY_IN_THE_FILE,
        "a client's wrong key": WRONG_KEY,
        "a wrong admin key": WRONG_ADMIN_KEY,
    }
    with hosted_api() as hosted:
        url = start_gateway(stack, directory, redis, hosted.url)
        try:
            use_the_stack(stack)
            planted.secrets["a new key"] = use_the_gateway(url, stack, directory, redis)
            planted.urls = [stack.url(name) for name in ("gateway", "retriever", "reranker", "generator", "worker")]
            planted.urls.append(url)
            assert [key for key, _ in hosted.seen] == [f"Bearer {PROVIDER_KEY}"], "the hosted API was not asked"
            yield planted
        finally:
            stack.drain(GATEWAY)
            redis.kill()


def start_gateway(stack: RunningStack, directory: Path, redis: RedisServer, hosted: str) -> str:
    models: dict[str, Any] = {
        "pools": {
            "llm": {"urls": [stack.url("worker")]},
            "hosted": {"kind": "openai", "urls": [hosted], "api_key_env": "PROVIDER_KEY"},
            "dead": {"kind": "openai", "urls": ["http://127.0.0.1:9"], "api_key_env": "PROVIDER_KEY"},
        },
        "models": {
            MODEL: {"pool": "llm"},
            "embedder": {"pool": "hosted"},
            "dead": {"pool": "dead"},
        },
    }
    (directory / "models.yaml").write_text(yaml.safe_dump(models))
    settings = free_ports(stack.settings)
    url = f"http://127.0.0.1:{settings.gateway_port}"
    environment = {
        "CAPSTAN_LOG_LEVEL": "debug",
        "CAPSTAN_IDENTITY_SECRET": identity_secret(stack.settings.state),
        "CAPSTAN_GATEWAY_PORT": str(settings.gateway_port),
        "CAPSTAN_GATEWAY_MODELS_FILE": str(directory / "models.yaml"),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(stack.settings.state / "keys.yaml"),
        "CAPSTAN_GATEWAY_ADMIN_KEY": ADMIN_KEY,
        "CAPSTAN_GATEWAY_REDIS_URL": redis.url.replace("127.0.0.1", f":{quoted(REDIS_PASSWORD)}@127.0.0.1"),
        "PROVIDER_KEY": PROVIDER_KEY,
    }
    command = (str(settings.services_python), "-m", "capstan.gateway")
    stack.start_beside(Service(GATEWAY, command, environment, f"{url}/readyz"))
    return url


def quoted(password: str) -> str:
    return password.replace("/", "%2F").replace("+", "%2B")


def use_the_stack(stack: RunningStack) -> None:
    """A document, a question about it, a search, a comment, and mistakes."""
    document = {
        "id": "notes/private",
        "title": "Notes",
        "source": "test",
        "sections": [{"heading": ["Notes"], "text": f"The {WORDS['document']} is kept in the third cupboard."}],
    }
    question = f"In which cupboard is the {WORDS['question']}, and what does git stash do?"
    body = {"model": "docs", "messages": [{"role": "user", "content": question}]}
    with stack.client() as client:
        assert client.post("/v1/documents", json={"documents": [document]}).status_code == 200
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        streamed = client.post("/v1/chat/completions", json={**body, "stream": True})
        assert "[DONE]" in streamed.text
        vote = {"answer_id": answer.json()["id"], "kind": "down", "comment": WORDS["comment"]}
        assert client.post("/v1/feedback", json=vote).is_success
        assert client.post("/v1/search", json={"query": WORDS["question"], "mode": "bm25"}).status_code == 200
        misuse(client)
        assert client.delete("/v1/documents/notes/private").is_success
    for name in ("gateway", "retriever", "generator"):
        wrong = {"authorization": f"Bearer {WRONG_KEY}", "x-capstan-identity": WRONG_KEY}
        path = "/v1/models" if name == "gateway" else "/v1/documents" if name == "retriever" else "/v1/answers"
        assert httpx2.get(stack.url(name) + path, headers=wrong, trust_env=False).status_code == 401


def misuse(client: httpx2.Client) -> None:
    """Bodies that are refused."""
    text = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "{WORDS["malformed"]}"'
    for path in ("/v1/chat/completions", "/v1/search", "/v1/feedback"):
        assert client.post(path, content=text).status_code in (400, 404)
        unknown = {"model": WORDS["malformed"], "query": [WORDS["malformed"]], "kind": WORDS["malformed"]}
        assert client.post(path, json=unknown).status_code in (400, 404)


def use_the_gateway(url: str, stack: RunningStack, directory: Path, redis: RedisServer) -> str:
    """A new tenant's key made, used and rotated; what fails, fails: keys, an upstream, a reload, Redis. The key."""
    chat = {"model": MODEL, "messages": [{"role": "user", "content": WORDS["prompt"] * 9}], "max_tokens": 40}
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        admin = {"authorization": f"Bearer {ADMIN_KEY}"}
        assert client.put("/admin/v1/tenants/acme", json={}, headers=admin).status_code == 200
        key = client.post("/admin/v1/tenants/acme/keys", json={}, headers=admin).json()["key"]
        client.headers["authorization"] = f"Bearer {key}"
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
        assert "[DONE]" in client.post("/v1/chat/completions", json={**chat, "stream": True}).text
        embedded = client.post("/v1/embeddings", json={"model": "embedder", "input": WORDS["prompt"]})
        assert embedded.status_code == 200
        dead = client.post("/v1/embeddings", json={"model": "dead", "input": WORDS["prompt"]})
        assert dead.json()["error"]["code"] == "no_healthy_upstream"
        misuse(client)
        for headers in ({"authorization": f"Bearer {WRONG_KEY}"}, {"authorization": "", "x-api-key": WRONG_KEY}):
            assert client.post("/v1/chat/completions", json=chat, headers=headers).status_code == 401
        assert client.get("/v1/models", params={"api_key": WRONG_KEY}).status_code == 200
        wrong = {"authorization": f"Bearer {WRONG_ADMIN_KEY}"}
        assert client.get("/admin/v1/tenants", headers=wrong).status_code == 401
        assert client.get("/admin/v1/status", headers=admin).status_code == 200
        rotate = f"/admin/v1/tenants/acme/keys/{key.partition('.')[0]}/rotate"
        assert client.post(rotate, json={"grace_s": 60}, headers=admin).status_code == 201
        refuse_a_models_file(client, admin, directory / "models.yaml")
        redis.kill()
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
        assert client.put("/admin/v1/tenants/other", json={}, headers=admin).status_code == 503
    return str(key).partition(".")[2]


def refuse_a_models_file(client: httpx2.Client, admin: dict[str, str], path: Path) -> None:
    """A key where its variable's name belongs, which people try."""
    good = path.read_text()
    for mistake in ({"api_key": PROVIDER_KEY_IN_THE_FILE}, {"api_key_env": PROVIDER_KEY_IN_THE_FILE}):
        models = yaml.safe_load(good)
        models["pools"]["hosted"] |= mistake
        path.write_text(yaml.safe_dump(models))
        refused = client.post("/admin/v1/reload", headers=admin)
        assert refused.status_code == 409, refused.text
    path.write_text(good)


def test_no_secret_is_in_what_the_stack_has_written(used: Planted) -> None:
    texts = used.written()
    assert f"logs/{GATEWAY}.log" in texts
    assert "key created" in texts[f"logs/{GATEWAY}.log"], "the log was not read, or says nothing"
    assert found(used.secrets, texts) == []


def test_nothing_that_people_write_is_in_what_the_stack_has_written(used: Planted) -> None:
    assert found(WORDS, used.written()) == []


@pytest.mark.vllm
def test_a_real_worker_writes_neither_secrets_nor_prompts(vllm_stack: RunningStack) -> None:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": WORDS["prompt"]}], "max_tokens": 4}
    with vllm_stack.client() as client:
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
        misuse(client)
        picture = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:9/{WORDS['prompt']}.png"}}
        refused = client.post(
            "/v1/chat/completions", json={**chat, "messages": [{"role": "user", "content": [picture]}]}
        )
        assert refused.status_code == 400
    state = vllm_stack.settings.state
    written = Planted({}, [state, state / "logs"], [vllm_stack.url("worker"), vllm_stack.url("gateway")]).written()
    assert "logs/worker.log" in written
    assert found(secrets_of(vllm_stack) | WORDS, written) == []


MODELS = "pools: {p: {urls: [http://127.0.0.1:9], api_key_env: PROVIDER_KEY}}\nmodels: {m: {pool: p}}\n"


def refused_start(stack: RunningStack, directory: Path, models: str = MODELS, **environment: str) -> str:
    """What a gateway writes that does not start."""
    (directory / "models.yaml").write_text(models)
    settings = {
        "CAPSTAN_IDENTITY_SECRET": "s" * 32,
        "CAPSTAN_GATEWAY_MODELS_FILE": str(directory / "models.yaml"),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(stack.settings.state / "keys.yaml"),
        "CAPSTAN_GATEWAY_PORT": str(free_ports(stack.settings).gateway_port),
        "PROVIDER_KEY": PROVIDER_KEY,
    }
    command = [str(stack.settings.services_python), "-m", "capstan.gateway"]
    variables = {**os.environ, **settings, **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CAPSTAN_GATEWAY_ADMIN_KEY", "short-but-still-a-secret-one"),
        ("CAPSTAN_IDENTITY_SECRET", "short-but-still-a-secret-two"),
        ("CAPSTAN_GATEWAY_REDIS_URL", "redis://:password-that-leads-nowhere@127.0.0.1:9/0"),
        ("CAPSTAN_GATEWAY_REDIS_URL", "redsi://:password-of-a-misspelt-url@127.0.0.1:9/0"),
    ],
)
def test_a_mistaken_setting_is_said_without_its_value(
    stack: RunningStack, tmp_path: Path, name: str, value: str
) -> None:
    said = refused_start(stack, tmp_path, **{name: value})
    assert name in said
    assert found({name: value.partition("@")[0].rpartition(":")[2]}, {"what it wrote": said}) == []


def test_a_key_where_its_variables_name_belongs_is_not_repeated(stack: RunningStack, tmp_path: Path) -> None:
    said = refused_start(stack, tmp_path, MODELS.replace("PROVIDER_KEY", PROVIDER_KEY_IN_THE_FILE))
    assert "pools.p.api_key_env" in said
    assert found({"provider's key": PROVIDER_KEY_IN_THE_FILE}, {"what it wrote": said}) == []


SECRET = "pass/word-of-the-test+with ümlaut"


@pytest.mark.parametrize(
    "line",
    [
        f"url=redis://:{SECRET}@redis",
        "started with pass/word-of-the-",
        '{"msg": "key -test+with ümlaut refused"}',
        "GET /?key=pass%2Fword-of-the-test%2Bwith%20%C3%BCmlaut",
        '{"msg": "pass/word-of-the-test+with \\u00fcmlaut"}',
        "authorization: Basic OnBhc3Mvd29yZC1vZi10aGUtdGVzdCt3aXRoIMO8bWxhdXQ=",  # ":<secret>"
    ],
)
def test_a_secret_is_found_in_every_form(line: str) -> None:
    assert found({"it": SECRET}, {"a.log": f"before\n{line}\nafter"}) == [f"it in a.log: {line}"]


def test_what_is_no_secret_is_not_found() -> None:
    assert found({"it": SECRET}, {"a.log": "password of the test with umlaut\npass/word\nümlaut\n"}) == []


def test_a_secret_that_is_too_short_to_be_searched_for_is_refused() -> None:
    with pytest.raises(AssertionError, match="too short"):
        forms("hunter2")
