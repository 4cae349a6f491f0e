"""Jobs: off by default, resumable, and what a run over several nodes needs."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
import yaml
from helm_chart import CHART, Object, find, of_kind, rendered, with_values, workloads

from capstan.common.settings import unknown_names


def _jobs(objects: Sequence[Object]) -> dict[str, Object]:
    return {item["metadata"]["labels"]["app.kubernetes.io/component"]: item for item in of_kind(objects, "Job")}


def _with_run(**run: Any) -> dict[str, Object]:
    return _jobs(with_values({"jobs": {"runs": {"pretrain": {"enabled": True, **run}}}}))


def test_they_are_off_by_default() -> None:
    assert of_kind(rendered("one-gpu"), "Job") == []


def test_an_interrupted_run_goes_on_and_a_wrong_one_ends() -> None:
    for name, job in _jobs(rendered("everything")).items():
        spec = job["spec"]
        assert spec["completionMode"] == "Indexed", name
        assert spec["template"]["spec"]["restartPolicy"] == "Never", name
        ignore, fail = spec["podFailurePolicy"]["rules"]
        assert ignore["action"] == "Ignore"
        assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
        assert fail["action"] == "FailJob"
        assert fail["onExitCodes"] == {"containerName": "job", "operator": "In", "values": [2]}
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 120, name
        assert spec["ttlSecondsAfterFinished"] > 0, name


def test_checkpoints_outlive_the_pod() -> None:
    objects = rendered("everything")
    for load in workloads(objects):
        if load.component.startswith("job-"):
            volumes = {volume["name"]: volume for volume in load.spec["volumes"]}
            claim = volumes["data"]["persistentVolumeClaim"]["claimName"]
            kept = find(objects, "PersistentVolumeClaim", claim)["metadata"]["annotations"]
            assert kept == {"helm.sh/resource-policy": "keep"}
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


def test_another_configuration_is_another_job() -> None:
    """A Job's pods cannot be changed: under the same name an upgrade would fail."""
    base = _with_run()["job-pretrain"]["metadata"]["name"]
    assert _with_run()["job-pretrain"]["metadata"]["name"] == base
    changes: list[dict[str, Any]] = [
        {"args": ["capstan.jobs.pretrain", "other.yaml"]},
        {"gpus": 1},
        {"files": {"recipe.yaml": "steps: 2"}},
        {"extraEnv": [{"name": "X", "value": "1"}]},
    ]
    names = {_with_run(**change)["job-pretrain"]["metadata"]["name"] for change in changes}
    assert len(names) == len(changes)
    assert base not in names
    assert _with_run(ttlSeconds=60)["job-pretrain"]["metadata"]["name"] == base, "which can be changed"


def test_several_nodes_meet() -> None:
    objects = rendered("everything")
    job = _jobs(objects)["job-pretrain"]
    name, spec = job["metadata"]["name"], job["spec"]["template"]["spec"]
    service = find(objects, "Service", spec["subdomain"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    arguments = spec["containers"][0]["args"]
    assert arguments[:7] == [
        "torch.distributed.run",
        "--nnodes=2",
        "--nproc-per-node=8",
        "--node-rank=$(NODE_RANK)",
        f"--master-addr={name}-0.{spec['subdomain']}",
        "--master-port=29500",
        "-m",
    ]
    assert len(f"{name}-0") <= 63, "the first pod's host name"
    rank = next(item for item in spec["containers"][0]["env"] if item["name"] == "NODE_RANK")
    assert "job-completion-index" in rank["valueFrom"]["fieldRef"]["fieldPath"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)


def test_one_node_needs_no_service() -> None:
    objects = rendered("everything")
    arguments = _jobs(objects)["job-assistant"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:5] == [
        "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--standalone", "-m"
    ]  # fmt: skip
    assert "capstan-job-assistant" not in {item["metadata"]["name"] for item in of_kind(objects, "Service")}
    assert "subdomain" not in _jobs(objects)["job-assistant"]["spec"]["template"]["spec"]


def test_kueue_lets_them_go() -> None:
    for name, job in _jobs(rendered("everything")).items():
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training", name
        assert job["spec"]["suspend"] is True, name
    assert "suspend" not in _with_run()["job-pretrain"]["spec"]


def test_jobs_that_speak_for_a_tenant_have_the_secret_and_others_have_not() -> None:
    files = {load.component: set(load.secret_files) for load in workloads(rendered("everything"))}
    assert files["job-corpus-load"] == files["job-evaluate"] == {"CAPSTAN_IDENTITY_SECRET"}
    assert files["job-corpus-build"] == files["job-pretrain"] == files["job-assistant"] == set()


MODULES = {
    "job-assistant": ("capstan.jobs.assistant", "capstan.jobs.assistant.__main__", "Settings"),
    "job-corpus-build": ("capstan.jobs.corpus", "capstan.jobs.command", "JobSettings"),
    "job-corpus-load": ("capstan.jobs.corpus", "capstan.jobs.corpus.__main__", "LoadSettings"),
    "job-evaluate": ("capstan.jobs.evaluate", "capstan.jobs.evaluate.__main__", "Settings"),
    "job-pretrain": ("capstan.jobs.pretrain", "capstan.jobs.metrics", "TrainingSettings"),
}
"""Job to its module, and where its settings are."""


@pytest.mark.parametrize("job", MODULES)
def test_a_job_takes_its_arguments_and_its_environment(job: str) -> None:
    module, place, settings = MODULES[job]
    load = next(load for load in workloads(rendered("everything")) if load.component == job)
    arguments = load.container["args"]
    parser = import_module(f"{module}.__main__")._parser()
    assert parser.parse_args(arguments[arguments.index(module) + 1 :])
    given = {**load.env, **load.secret_files}
    assert list(unknown_names(getattr(import_module(place), settings), given)) == []


def test_the_defaults_of_jobs_fit_too() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["jobs"]["runs"]
    for name in ("assistant", "corpus-build", "corpus-load", "evaluate", "pretrain"):
        module, *arguments = values[name]["args"]
        assert import_module(f"{module}.__main__")._parser().parse_args(arguments), name
