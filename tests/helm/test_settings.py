"""The chart's settings are the services' own: names, values and files, by the services' own parsers."""

import base64
import hashlib
import json
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from helm_chart import CHART, CI, ROOT, Object, find, of_kind, rendered, services, with_values, workloads

from capstan.common.settings import ServiceSettings, environment_names, unknown_names
from capstan.gateway.config import Pool, Price, Tenant, read_keys, read_models
from capstan.worker.settings import WorkerSettings

CLASSES = {
    "gateway": "capstan.gateway.settings:GatewaySettings",
    "retriever": "capstan.retriever.settings:RetrieverSettings",
    "reranker": "capstan.reranker.settings:RerankerSettings",
    "generator": "capstan.generator.settings:GeneratorSettings",
    "vllm-worker": "capstan.worker.settings:WorkerSettings",
}
IN_SECRETS = {
    "CAPSTAN_IDENTITY_SECRET": "s" * 48,
    "CAPSTAN_GATEWAY_ADMIN_KEY": "a" * 48,
    "CAPSTAN_GATEWAY_REDIS_URL": "redis://:password@redis:6379/0",
    "CAPSTAN_RETRIEVER_QDRANT_API_KEY": "q" * 40,
}
BY_IMAGE = {"HOST", "PORT"}
Objects = tuple[Object, ...]


def settings_class(component: str) -> type[ServiceSettings]:
    module, name = CLASSES[component].split(":")
    found: type[ServiceSettings] = getattr(import_module(module), name)
    return found


def _names(component: str) -> dict[str, str]:
    """A service's own settings: name without prefix to full name."""
    prefix = "CAPSTAN_WORKER_" if component == "vllm-worker" else f"CAPSTAN_{component.upper()}_"
    names = environment_names(settings_class(component)).values()
    return {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}


def test_every_service_would_start_with_its_environment(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    for load in services(objects):
        given = load.env | {name: IN_SECRETS[name] for name in load.secret_files}
        cls = settings_class(load.component)
        assert list(unknown_names(cls, given)) == [], load.name
        others = {n for n in given if n.startswith("CAPSTAN_")} - set(environment_names(cls).values())
        assert others == set(), load.name
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            cls()


def test_secrets_come_as_files(objects: Objects) -> None:
    for load in services(objects):
        wanted = set() if load.component == "vllm-worker" else {"CAPSTAN_IDENTITY_SECRET"}
        assert wanted <= set(load.secret_files), load.name
        assert not (set(IN_SECRETS) - {"CAPSTAN_GATEWAY_REDIS_URL"}) & set(load.env), load.name
        for name, (secret, key) in load.secret_files.items():
            made = [item for item in of_kind(objects, "Secret") if item["metadata"]["name"] == secret]
            assert all(key in {**item.get("data", {}), **item.get("stringData", {})} for item in made), (
                load.name,
                name,
            )


@pytest.mark.parametrize("component", CLASSES)
def test_the_schema_lists_the_settings_that_the_chart_does_not_set(component: str) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    place = schema["$defs"]["pool"] if component == "vllm-worker" else schema["properties"][component]
    offered = set(place["properties"]["settings"]["propertyNames"]["enum"])
    known = _names(component)
    assert offered - set(known) == set(), "the service has no such setting"
    loads = [load for name in CI for load in services(rendered(name)) if load.component == component]
    set_by_chart = {full for load in loads for full in (*load.env, *load.secret_files)}
    missing = {short for short, full in known.items() if full not in set_by_chart} - offered - BY_IMAGE
    assert missing == set(), "a setting that neither the chart nor `settings` can set"


def test_the_schema_knows_the_fields_of_the_gateways_files() -> None:
    definitions = json.loads((CHART / "values.schema.json").read_text())["$defs"]
    pool = definitions["pool"]["properties"]
    owned = {"kind", "urls", "dns", "api_key_env", "metered"}
    assert set(pool["admission"]["propertyNames"]["enum"]) == set(Pool.model_fields) - owned
    assert set(pool["price"]["propertyNames"]["enum"]) == set(Price.model_fields)
    assert set(definitions["tenant"]["properties"]) == set(Tenant.model_fields)


def _models(objects: Objects) -> str:
    return str(find(objects, "ConfigMap", "capstan-gateway")["data"]["models.yaml"])


def test_the_gateway_reads_its_models(objects: Objects, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(_models(objects))
    models = read_models(file)
    workers = [load for load in services(objects) if load.component == "vllm-worker"]
    for load in workers:
        name = load.env["CAPSTAN_WORKER_SERVED_MODEL_NAME"]
        pool = models.pools[models.models[name].pool or ""]
        assert pool.dns is not None
        service = find(objects, "Service", str(pool.dns.host))
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["selector"].items() <= load.labels.items()
        gateways = find(objects, "Deployment", "capstan-gateway")["spec"].get("replicas", 2)
        assert pool.max_concurrent * gateways >= int(load.env["CAPSTAN_WORKER_MAX_NUM_SEQS"])
        adapters = [pair.split("=")[0] for pair in load.env.get("CAPSTAN_WORKER_ADAPTERS", "").split(",") if pair]
        assert all(models.models[adapter].pool == models.models[name].pool for adapter in adapters)
    generator = next(load for load in services(objects) if load.component == "generator")
    assert generator.env["CAPSTAN_GENERATOR_LLM"] in models.models
    assert models.models["reranker"].upstream_model == next(
        load.env["CAPSTAN_RERANKER_MODEL"] for load in services(objects) if load.component == "reranker"
    )


def test_mounts_and_arms_are_those_of_the_native_stack() -> None:
    """native/models.yaml is what the page and the end-to-end tests run on."""
    native = yaml.safe_load((ROOT / "native/models.yaml").read_text())
    chart = yaml.safe_load(_models(rendered("minimal-cpu")))

    def mounts(data: Object) -> list[Object]:
        return [
            {key: value for key, value in mount.items() if key != "url"}
            | {"to": "generator" if "GENERATOR" in mount["url"] or "generator" in mount["url"] else "retriever"}
            for mount in data["mounts"]
        ]

    assert mounts(chart) == mounts(native)
    assert set(chart["models"]) == set(native["models"])


def test_awq_is_served_in_place_of_the_full_model() -> None:
    loads = {load.object["metadata"]["name"]: load for load in workloads(rendered("four-gpus-awq-adapters"))}
    large, small = loads["capstan-vllm-worker-large"], loads["capstan-vllm-worker-small"]
    assert large.env["CAPSTAN_WORKER_MODEL"] == "hf:Qwen/Qwen2.5-72B-Instruct-AWQ"
    assert large.env["CAPSTAN_WORKER_ENGINE_ARGS"] == "--tensor-parallel-size 2 --gpu-memory-utilization 0.92"
    assert large.env["XDG_CACHE_HOME"] == "/cache", "vLLM compiles for minutes, and /tmp is small"
    assert small.env["CAPSTAN_WORKER_LORA_SLOTS"] == "2"
    assert "CAPSTAN_WORKER_ENGINE_ARGS" not in small.env
    assert {item["name"] for item in large.container["env"] if "valueFrom" in item} == {"HF_TOKEN"}


def test_the_worker_reads_its_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    load = next(load for load in services(rendered("four-gpus-awq-adapters")) if "CAPSTAN_WORKER_ADAPTERS" in load.env)
    for name, value in load.env.items():
        monkeypatch.setenv(name, value)
    assert WorkerSettings().adapters == {
        "qwen2.5-7b-legal": "file:/weights/legal",
        "qwen2.5-7b-support": "file:/weights/support",
    }
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in load.container["volumeMounts"]


def test_large_numbers_are_written_as_numbers() -> None:
    gateway = next(load for load in services(rendered("everything")) if load.component == "gateway")
    assert gateway.env["CAPSTAN_GATEWAY_MAX_BODY_BYTES"] == "4194304"


def test_threads_are_the_cpus_that_are_requested() -> None:
    """Not the node's, which a process sees."""
    objects = with_values(
        {"retriever": {"resources": {"requests": {"cpu": "2500m"}}}, "reranker": {"settings": {"THREADS": 7}}}
    )
    loads = {load.component: load for load in services(objects)}
    assert loads["retriever"].env["CAPSTAN_RETRIEVER_EMBED_THREADS"] == "3"
    assert loads["reranker"].env["CAPSTAN_RERANKER_THREADS"] == "7"


@pytest.mark.parametrize("name", [name for name in CI if name != "external-stores"])  # whose Secret is the user's own
def test_the_first_key_opens_the_gateway(name: str, tmp_path: Path) -> None:
    made = find(rendered(name), "Secret", "capstan")["data"]
    data = {key: base64.b64decode(value).decode() for key, value in made.items()}
    file = tmp_path / "keys.yaml"
    file.write_text(data["keys.yaml"])
    tenant = read_keys(file).tenants["demo"]
    key_id, secret = data["api-key"].split(".")
    assert len(secret) >= 32
    assert {(key.id, key.sha256) for key in tenant.keys} == {
        (key_id, hashlib.sha256(data["api-key"].encode()).hexdigest())
    }
    assert len(data["CAPSTAN_IDENTITY_SECRET"]) >= 32
    assert len(data["CAPSTAN_GATEWAY_ADMIN_KEY"]) >= 32
    assert data["CAPSTAN_IDENTITY_SECRET"] != data["CAPSTAN_GATEWAY_ADMIN_KEY"]
