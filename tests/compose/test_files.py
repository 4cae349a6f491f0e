"""Compose files, Dockerfiles and scripts, without a Docker engine."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_stack import COMPOSE, ROOT

from capstan.gateway.config import read_models

OVERLAYS = ("local", "simulate", "observability", "assistant", "gpu", "train")
COMBINATIONS = [
    ("compose.yaml", *(f"compose.{name}.yaml" for name in chosen))
    for count in range(len(OVERLAYS) + 1)
    for chosen in itertools.combinations(OVERLAYS, count)
    if "simulate" not in chosen or ("local" in chosen and "gpu" not in chosen)
]
"""Simulated workers stand on the local overlay and need no GPU."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`compose/` after `./init`."""
    target = tmp_path_factory.mktemp("files") / "compose"
    shutil.copytree(ROOT / "compose", target, ignore=shutil.ignore_patterns("wheelhouse", "secrets", ".env"))
    subprocess.run(["./init"], cwd=target, check=True, capture_output=True)
    return target


def render(directory: Path, files: tuple[str, ...], **environment: str) -> dict[str, Any]:
    """The merged configuration; Compose checks it against the specification's schema."""
    given = {**os.environ, "COMPOSE_FILE": ":".join(files), "LLM_MODEL": "hf:example/model", **environment}
    command = [COMPOSE, "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, cwd=directory, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    rendered: dict[str, Any] = json.loads(done.stdout)
    return rendered


@pytest.mark.parametrize("files", COMBINATIONS, ids=lambda files: "+".join(f.split(".")[1] for f in files))
def test_every_combination_of_overlays_renders_and_is_locked_down(directory: Path, files: tuple[str, ...]) -> None:
    services = render(directory, files)["services"]
    for name, service in services.items():
        assert service.get("read_only") is True, name
        assert service.get("cap_drop") == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service.get("mem_limit"), name
        assert service.get("cpus") or "compose.gpu.yaml" in files, name
        assert service.get("restart"), name
        assert service.get("privileged") is None, name
    published = {name for name, service in services.items() if service.get("ports")}
    assert published <= {"gateway", "prometheus", "grafana", "otel-collector"}
    for name in published - {"gateway"}:
        assert all(port["host_ip"] == "127.0.0.1" for port in services[name]["ports"]), name


def test_the_registry_path_differs_from_the_local_one_in_images_and_the_vector_store_only(directory: Path) -> None:
    registry, local = render(directory, ("compose.yaml",)), render(directory, ("compose.yaml", "compose.local.yaml"))
    assert set(registry["services"]) - set(local["services"]) == {"qdrant"}
    for name, service in local["services"].items():
        if name != "retriever":
            other = dict(registry["services"][name])
            changed = {key for key in {*service, *other} if service.get(key) != other.get(key)}
            assert changed <= {"image", "build"}, name


def test_env_example_names_every_variable_of_an_image_and_nothing_unknown() -> None:
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / "compose/.env.example").read_text(), re.MULTILINE))
    text = "".join(path.read_text() for path in sorted((ROOT / "compose").glob("compose*.yaml")))
    used = dict(re.findall(r"\$\{([A-Z_]+):?[-?]([^}]*)\}", text))
    assert {name for name, default in used.items() if name.endswith("_IMAGE") and "capstan/" not in default} <= set(
        example
    )
    assert set(example) - {"COMPOSE_FILE"} <= set(used)
    for name in set(example) & set(used) - {"LLM_MODEL"}:
        assert example[name] == used[name], f"{name}: .env.example and the default differ"


def test_no_third_party_image_floats() -> None:
    example = (ROOT / "compose/.env.example").read_text()
    images = re.findall(r"^[A-Z_]+_IMAGE=(.+)$", example, re.MULTILINE)
    assert images
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), image


def test_init_makes_secrets_once_and_keeps_them_private(directory: Path) -> None:
    before = {path.name: path.read_text() for path in (directory / "secrets").iterdir()}
    again = subprocess.run(["./init"], cwd=directory, check=True, capture_output=True, text=True).stdout
    assert "API key" not in again
    assert {path.name: path.read_text() for path in (directory / "secrets").iterdir()} == before
    assert (directory / "secrets").stat().st_mode & 0o077 == 0
    declared = yaml.safe_load((directory / "compose.yaml").read_text())["secrets"]
    assert {Path(secret["file"]).name for secret in declared.values()} <= set(before)


def test_no_secret_is_in_an_environment(directory: Path) -> None:
    rendered = render(directory, ("compose.yaml", "compose.observability.yaml"))
    values = [path.read_text().strip() for path in (directory / "secrets").iterdir()]
    for name, service in rendered["services"].items():
        environment = json.dumps(service.get("environment", {}))
        assert not any(value in environment for value in values), name


def test_the_gateway_reads_the_models_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_NAME", "llama")
    monkeypatch.setenv("RERANKER_MODEL", "file:/models/reranker")
    models = read_models(ROOT / "compose/models.yaml")
    assert {"llama", "docs", "reranker"} <= set(models.models)
    assert str(models.pools["llm"].dns) == "http://vllm-worker:8004/"


def test_the_assistant_overlay_names_one_adapter_for_gateway_worker_and_generator(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = render(directory, ("compose.yaml", "compose.assistant.yaml"))["services"]
    for name, value in services["gateway"]["environment"].items():
        monkeypatch.setenv(name, str(value))
    models = read_models(ROOT / "compose/models.yaml", ROOT / "compose/models.assistant.yaml").models
    llm = services["generator"]["environment"]["CAPSTAN_GENERATOR_LLM"]
    assert (models[llm].pool, models[llm].adapter) == ("llm", "/models/assistant")
    assert services["vllm-worker"]["environment"]["CAPSTAN_WORKER_LORA_SLOTS"] == "1"
    arms = yaml.safe_load((ROOT / "services/generator/src/capstan/generator/arms.yaml").read_text())
    assert arms["assistant"]["llm"] == llm
    assert arms["base"]["llm"] in models


@pytest.mark.parametrize("path", sorted((ROOT / "compose/images").glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing() -> None:
    scripts = [ROOT / "compose/init", ROOT / "compose/pin", *sorted((ROOT / "compose/images").glob("*.sh"))]
    done = subprocess.run([Path(sys.executable).with_name("shellcheck"), *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_pin_writes_digests_and_touches_nothing_else(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text(
        '#!/bin/sh\ncase "$1" in image) eval "last=\\${$#}"; echo "x/${last%%:*}@sha256:abc";; esac\n'
    )
    (tmp_path / "docker").chmod(0o755)
    before = (directory / ".env").read_text()
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for _ in range(2):  # what is pinned stays
        subprocess.run(["./pin"], cwd=directory, check=True, capture_output=True, env=environment)
    after = (directory / ".env").read_text()
    assert "\nREDIS_IMAGE=redis:7.4.2-bookworm@sha256:abc\n" in after
    unpinned = re.sub(r"@sha256:abc$", "", after, flags=re.MULTILINE)
    assert unpinned == before
    assert after.count("@sha256:abc") == len(re.findall(r"^[A-Z_]+_IMAGE=", before, re.MULTILINE))
