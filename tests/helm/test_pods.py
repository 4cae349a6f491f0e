"""What holds for every pod that the chart makes: security, resources, probes, labels, drain."""

import re

import pytest
from helm_chart import COMPONENT, SERVICES, Object, Workload, find, of_kind, services, with_values, workloads

Objects = tuple[Object, ...]


def test_pods_meet_the_restricted_standard(objects: Objects) -> None:
    """Pod Security Standards, restricted, and a read-only root on top."""
    for load in workloads(objects):
        pod, container = load.spec["securityContext"], load.container["securityContext"]
        assert pod["runAsNonRoot"] is True, load.name
        assert pod["runAsUser"] >= 100, load.name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, load.name
        assert container["allowPrivilegeEscalation"] is False, load.name
        assert container["readOnlyRootFilesystem"] is True, load.name
        assert container["capabilities"] == {"drop": ["ALL"]}, load.name
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(load.spec), load.name
        kinds = {key for volume in load.spec["volumes"] for key in volume if key != "name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}, load.name


def test_what_runs_as_ours_can_write_where_the_images_say(objects: Objects) -> None:
    for load in workloads(objects):
        writable = {mount["mountPath"] for mount in load.container["volumeMounts"] if not mount.get("readOnly")}
        assert "/tmp" in writable, load.name
        if load.component in SERVICES or load.component.startswith("job-"):
            assert load.spec["securityContext"]["runAsUser"] == 10001, load.name
            assert "/cache" in writable, load.name
        if load.component in ("retriever", "generator"):
            assert "/data" in writable, load.name


def test_no_pod_has_a_token(objects: Objects) -> None:
    for load in workloads(objects):
        assert load.spec["automountServiceAccountToken"] is False, load.name
        account = find(objects, "ServiceAccount", load.spec["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False, load.name
    assert of_kind(objects, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") == []


def test_services_do_not_leak_into_the_environment(objects: Objects) -> None:
    """Kubernetes would set CAPSTAN_GATEWAY_PORT=tcp://… for a Service named capstan-gateway."""
    assert all(load.spec["enableServiceLinks"] is False for load in workloads(objects))


def test_images_are_pinned(objects: Objects) -> None:
    for load in workloads(objects):
        image = load.container["image"]
        assert re.search(r"(:[^/:]+|@sha256:[0-9a-f]{64})$", image), image
        assert not image.endswith(":latest"), image


def test_resources_are_stated(objects: Objects) -> None:
    for load in workloads(objects):
        resources = load.container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), load.name
        assert "memory" in resources["limits"], load.name


def test_environment_names_are_unique(objects: Objects) -> None:
    for load in workloads(objects):
        names = [item["name"] for item in load.container.get("env", [])]
        assert sorted(names) == sorted(set(names)), load.name


def test_no_secret_is_in_the_environment_or_the_arguments(objects: Objects) -> None:
    secrets = of_kind(objects, "Secret")
    values = {
        value
        for secret in secrets
        for key, value in {**secret.get("data", {}), **secret.get("stringData", {})}.items()
        if len(value) > 20
    }
    for load in workloads(objects):
        names = [name for name in load.env if re.search("SECRET|PASSWORD|TOKEN$|API_KEY|ADMIN_KEY", name)]
        assert names == [], load.name
        text = repr([load.env, load.container.get("args"), load.container.get("command")])
        assert [value for value in values if value in text] == [], load.name
        assert "@" not in load.env.get("CAPSTAN_GATEWAY_REDIS_URL", ""), load.name


def test_selectors_match_pods(objects: Objects) -> None:
    pods = [load.labels for load in workloads(objects)]
    for item in of_kind(objects, "Deployment", "StatefulSet"):
        assert item["spec"]["selector"]["matchLabels"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
    for item in of_kind(objects, "Service"):
        chosen = [labels for labels in pods if item["spec"]["selector"].items() <= labels.items()]
        assert len(chosen) == 1, item["metadata"]["name"]
    for item in of_kind(objects, "PodDisruptionBudget"):
        chosen = [labels for labels in pods if item["spec"]["selector"]["matchLabels"].items() <= labels.items()]
        assert len(chosen) == 1, item["metadata"]["name"]


def test_a_services_port_is_one_of_its_pods(objects: Objects) -> None:
    for item in of_kind(objects, "Service"):
        load = next(load for load in workloads(objects) if item["spec"]["selector"].items() <= load.labels.items())
        if load.component.startswith("job-"):
            continue  # torchrun's; the container does not declare it
        ports = {port["name"]: port["containerPort"] for port in load.container["ports"]}
        assert [ports[port["targetPort"]] for port in item["spec"]["ports"]] == [
            port["port"] for port in item["spec"]["ports"]
        ]


def test_volumes_and_mounts_belong_together(objects: Objects) -> None:
    for load in workloads(objects):
        mounted = {mount["name"] for mount in load.container["volumeMounts"]}
        claims = {claim["metadata"]["name"] for claim in load.object["spec"].get("volumeClaimTemplates", [])}
        assert mounted == {volume["name"] for volume in load.spec["volumes"]} | claims, load.name


def test_what_is_mounted_exists(objects: Objects) -> None:
    """ConfigMaps, Secrets and claims of the release; those that values name are the user's."""
    made = {(item["kind"], item["metadata"]["name"]) for item in objects}
    theirs = {"capstan-secrets", "capstan-redis-url", "capstan-qdrant-key", "models", "trained"}
    used = {
        pair
        for load in workloads(objects)
        for volume in load.spec["volumes"]
        for pair in (
            ("ConfigMap", volume.get("configMap", {}).get("name")),
            ("Secret", volume.get("secret", {}).get("secretName")),
            ("PersistentVolumeClaim", volume.get("persistentVolumeClaim", {}).get("claimName")),
            *(("Secret", source["secret"]["name"]) for source in volume.get("projected", {}).get("sources", [])),
        )
        if pair[1] is not None and pair[1] not in theirs
    }
    assert used - made == set()


def test_services_have_three_probes(objects: Objects) -> None:
    for load in services(objects):
        live, ready = ("/health", "/health") if load.component == "vllm-worker" else ("/healthz", "/readyz")
        container = load.container
        assert container["livenessProbe"]["httpGet"]["path"] == live, load.name
        assert container["readinessProbe"]["httpGet"]["path"] == ready, load.name
        assert container["startupProbe"]["httpGet"]["path"] == live, load.name
    for load in workloads(objects):
        if load.component in ("redis", "qdrant"):
            assert {"livenessProbe", "readinessProbe", "startupProbe"} <= set(load.container), load.name


def _longest_drain(load: Workload) -> float:
    sleep = load.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    delay = load.env.get("CAPSTAN_GATEWAY_DRAIN_DELAY_S", "0")
    return float(sleep) + float(delay) + float(load.env["CAPSTAN_DRAIN_S"])


def test_the_grace_period_covers_the_drain(objects: Objects) -> None:
    for load in services(objects):
        assert load.spec["terminationGracePeriodSeconds"] >= _longest_drain(load) + 5, load.name


@pytest.mark.parametrize(("sleep", "delay", "drain"), [(1, 0, 1), (30, 60, 5), (10, 5, 3600)])
def test_the_grace_period_follows_the_values(sleep: int, delay: int, drain: int) -> None:
    values = {"drain": {"preStopSeconds": sleep, "delaySeconds": delay, "seconds": drain, "marginSeconds": 5}}
    for load in services(with_values(values)):
        assert load.env["CAPSTAN_DRAIN_S"] == str(drain)
        assert load.spec["terminationGracePeriodSeconds"] > _longest_drain(load), load.name


def test_a_gateway_drains_at_least_as_long_as_its_workers(objects: Objects) -> None:
    drains = {load.component: float(load.env["CAPSTAN_DRAIN_S"]) for load in services(objects)}
    assert drains["gateway"] >= drains["vllm-worker"]


def test_a_gpu_pool_makes_room_before_it_makes_new(objects: Objects) -> None:
    for load in services(objects):
        strategy = load.object["spec"]["strategy"].get("rollingUpdate", {})
        gpus = load.container["resources"]["limits"].get("nvidia.com/gpu")
        if load.component == "vllm-worker" and gpus:
            assert strategy == {"maxSurge": 0, "maxUnavailable": 1}, load.name
            assert load.env["CAPSTAN_WORKER_DEVICE"] == "cuda"
            assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in load.spec["tolerations"]


def test_what_owns_a_file_is_never_there_twice(objects: Objects) -> None:
    for load in services(objects):
        server = "CAPSTAN_RETRIEVER_QDRANT_URL" in load.env
        if load.component == "generator" or (load.component == "retriever" and not server):
            assert load.object["spec"]["strategy"] == {"type": "Recreate"}, load.name
            assert load.object["spec"]["replicas"] == 1, load.name
        elif load.component == "retriever":
            assert "rollingUpdate" in load.object["spec"]["strategy"], load.name


def test_budgets_let_nodes_drain(objects: Objects) -> None:
    """One pod at a time where there are several; where there is one, a budget would block its node for ever."""
    budgets = of_kind(objects, "PodDisruptionBudget")
    for item in budgets:
        assert item["spec"]["maxUnavailable"] == 1
        assert item["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    guarded = {(item["metadata"]["name"]) for item in budgets}
    for load in services(objects):
        replicas = load.object["spec"].get("replicas")
        if replicas is not None:
            assert (load.object["metadata"]["name"] in guarded) == (replicas > 1), load.name


def test_replicas_are_spread(objects: Objects) -> None:
    for load in services(objects):
        if load.component == "generator":
            continue
        spread = load.spec["topologySpreadConstraints"]
        assert {item["topologyKey"] for item in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        assert all(item["labelSelector"]["matchLabels"].items() <= load.labels.items() for item in spread)


def test_a_new_chart_with_the_same_image_restarts_nothing(objects: Objects) -> None:
    for load in workloads(objects):
        if load.object["kind"] != "Pod":
            assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(load.labels), load.name
            assert COMPONENT in load.labels


def test_a_change_of_models_is_a_rollout_of_the_gateway() -> None:
    def annotations(values: Object) -> Object:
        return dict(find(with_values(values), "Deployment", "capstan-gateway")["spec"]["template"]["metadata"])

    before = annotations({})
    assert annotations({"gateway": {"extraModels": {"big": {"pool": "llm"}}}}) != before
    assert annotations({"gateway": {"tenants": {"acme": {"priority": "high"}}}}) != before
    assert annotations({"test": {"question": "Why?"}}) == before
