"""API keys, internal identities, and configuration mistakes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capstan.common.identity import Identity, Signer
from capstan.gateway.config import ConfigError, read_models
from capstan.gateway.tenants import add_key


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer acme-1.wrong", "Bearer nobody.x", "Basic acme-1.x", "Bearer acme-1", "Bearer ü.ü"],
)
async def test_a_wrong_key_is_401_and_reaches_nothing(gateway: Any, authorization: str) -> None:
    setup = await gateway()
    response = await setup.chat(headers={"authorization": authorization.encode("latin-1")})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not setup.upstream.requests


async def test_no_key_says_how_to_send_one(gateway: Any) -> None:
    setup = await gateway()
    response = await setup.chat(headers={"x-nothing": "1"})
    assert "Authorization: Bearer" in response.json()["error"]["message"]


async def test_the_generator_calls_models_in_its_tenants_name(gateway: Any, identity_secret: str) -> None:
    setup = await gateway(tenant={"requests_per_minute": 1})
    token = Signer(identity_secret).sign(Identity("acme", "generator"))
    for _ in range(3):  # not counted as requests of the tenant, its tokens are
        assert (await setup.chat(headers={"x-capstan-identity": token})).status_code == 200
    assert await setup.metric('capstan_gateway_tokens_total{model="m",tenant="acme",type="output"}') == 21


@pytest.mark.parametrize(
    ("tenant", "service", "secret"),
    [
        ("acme", "retriever", None),
        ("nobody", "generator", None),
        ("acme", "generator", "another-secret-of-at-least-32-chars"),
    ],
)
async def test_other_identities_do_not(
    gateway: Any, identity_secret: str, tenant: str, service: str, secret: str | None
) -> None:
    setup = await gateway()
    token = Signer(secret or identity_secret).sign(Identity(tenant, service))
    assert (await setup.chat(headers={"x-capstan-identity": token})).status_code == 401


GOOD_MODELS = "pools: {p: {urls: ['http://x']}}\nmodels: {m: {pool: p}}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pools: {p: {urls: ['http://x'], max_conccurrent: 3}}\nmodels: {m: {pool: p}}", "max_conccurrent"),
        ("pools: {p: {urls: ['http://x']}}\nmodels: {m: {pool: q}}", "'q'"),
        ("pools: {p: {urls: ['nowhere']}}\nmodels: {m: {pool: p}}", "pools.p.urls"),
        ("pools: {p: {urls: ['http://${NOT_SET_ANYWHERE}']}}\nmodels: {m: {pool: p}}", "NOT_SET_ANYWHERE"),
        ("pools: {p: {}}\nmodels: {m: {pool: p}}", "'urls' or 'dns'"),
        ("pools: {p: {urls: ['http://x']}}\nmodels: {m: {split: {n: 1}}}", "'n'"),
        ("pools: [", "expected"),
        ("", "pools"),
    ],
)
def test_a_mistake_in_models_yaml_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"models\.yaml") as error:
        read_models(path)
    assert says in str(error.value)


EXTRA = "models: {tuned: {pool: p, adapter: /weights/tuned}}\nmounts: [{path: /more, url: 'http://y'}]\n"


def test_another_file_adds_models_and_mounts(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(GOOD_MODELS)
    (tmp_path / "extra.yaml").write_text(EXTRA)
    found = read_models(tmp_path / "models.yaml", tmp_path / "extra.yaml")
    assert (list(found.models), found.models["tuned"].adapter) == (["m", "tuned"], "/weights/tuned")
    assert [mount.path for mount in found.mounts] == ["/more"]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("models: {m: {pool: p}}", "'m' is in the other file already"),
        ("models: {n: {pool: q}}", "'q'"),
        ("mounts: {path: /more}", "mounts"),
        ("models: [n]", "another form"),
        ("[]", "must have"),
    ],
)
def test_a_mistake_in_the_other_file_is_named(tmp_path: Path, extra: str, says: str) -> None:
    (tmp_path / "models.yaml").write_text(GOOD_MODELS)
    (tmp_path / "extra.yaml").write_text(extra)
    with pytest.raises(ConfigError, match=r"extra\.yaml") as error:
        read_models(tmp_path / "models.yaml", tmp_path / "extra.yaml")
    assert says in str(error.value)


def _start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "models.yaml").write_text(GOOD_MODELS)
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "CAPSTAN_IDENTITY_SECRET": "s" * 32,
        "CAPSTAN_GATEWAY_MODELS_FILE": str(tmp_path / "models.yaml"),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(tmp_path / "keys.yaml"),
        **environment,
    }
    command = [sys.executable, "-m", "capstan.gateway"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)


def test_start_up_mistakes_are_one_line_each_and_exit_2(tmp_path: Path) -> None:
    done = _start(tmp_path, CAPSTAN_GATEWAY_PROT="8000", CAPSTAN_GATEWAY_PORT="99999", CAPSTAN_LOG_LEVEL="loud")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "CAPSTAN_GATEWAY_PROT",
        "CAPSTAN_LOG_LEVEL",
        "CAPSTAN_GATEWAY_PORT",
    ]
    assert "did you mean CAPSTAN_GATEWAY_PORT?" in lines[0]


def test_a_missing_keys_file_is_named(tmp_path: Path) -> None:
    done = _start(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "keys.yaml: No such file" in done.stderr


def test_a_redis_that_does_not_answer_is_named(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.yaml", "acme")
    done = _start(tmp_path, CAPSTAN_GATEWAY_REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "CAPSTAN_GATEWAY_REDIS_URL" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_a_usage_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.yaml", "acme")
    done = _start(tmp_path, CAPSTAN_GATEWAY_USAGE_FILE=str(tmp_path / "nowhere/usage.jsonl"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "usage.jsonl" in done.stderr


def test_the_command_line_makes_a_key_and_shows_it_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    command = [sys.executable, "-m", "capstan.gateway", "new-key", "--file", str(path), "--tenant", "acme"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    key_id, secret = done.stdout.strip().split(".")
    assert key_id.startswith("acme-")
    assert secret not in path.read_text()
    assert key_id in path.read_text()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    import socket

    add_key(tmp_path / "keys.yaml", "acme")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = _start(tmp_path, CAPSTAN_GATEWAY_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "CAPSTAN_GATEWAY_PORT" in done.stderr
    assert "Traceback" not in done.stderr
