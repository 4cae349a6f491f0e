"""The whole stack in containers: what it answers, and what each container may do and reach."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from compose_stack import ComposeStack, Images, docker

PORTS = {"gateway": 8000, "retriever": 8001, "reranker": 8002, "generator": 8003, "vllm-worker": 8004, "redis": 6379}
SERVICES = (*PORTS, "documents", "prometheus")
EDGES = {
    ("gateway", "generator"),
    ("gateway", "retriever"),
    ("gateway", "reranker"),
    ("gateway", "vllm-worker"),
    ("gateway", "redis"),
    ("generator", "gateway"),
    ("generator", "retriever"),
    ("generator", "reranker"),
    ("documents", "retriever"),
    *(("prometheus", name) for name in PORTS if name != "redis"),
}
"""Who calls whom."""
REACHABLE = {(a, b) for edge in EDGES for a, b in (edge, edge[::-1]) if b in PORTS}
"""A network of Docker's has no direction: who is called can call back. Nothing else is reached."""

_PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reaches(place):
    try:
        socket.create_connection(place, 2).close()
        return True
    except OSError:
        return False
places = [tuple(place) for place in json.loads(sys.argv[1])]
with ThreadPoolExecutor(len(places)) as pool:
    found = dict(zip([host for host, _ in places], pool.map(reaches, places)))
print(json.dumps(found))
"""


def test_a_question_is_answered_with_citations(compose_stack: ComposeStack) -> None:
    question = "What happens to a stream when the worker dies during an answer?"
    with compose_stack.client() as client:
        answer = client.post(
            "/v1/chat/completions", json={"model": "docs", "messages": [{"role": "user", "content": question}]}
        ).json()
        page = client.get("/")
    message = answer["choices"][0]["message"]
    assert answer["capstan"]["reranked"]
    assert answer["capstan"]["verified_by"] == "words and embeddings"
    assert message["annotations"]
    for annotation in message["annotations"]:
        citation = annotation["url_citation"]
        assert message["content"][citation["start_index"] : citation["end_index"]] == f"[{citation['id']}]"
        assert citation["document_id"].startswith("documents/")
    assert page.status_code == 200
    assert "<html" in page.text


def test_prometheus_finds_every_container(compose_stack: ComposeStack) -> None:
    def targets() -> dict[str, list[str]]:
        address = f"http://127.0.0.1:{compose_stack.ports[1] + 1}/api/v1/targets?state=active"
        active = httpx2.get(address, trust_env=False).json()["data"]["activeTargets"]
        jobs: dict[str, list[str]] = {}
        for target in active:
            jobs.setdefault(target["labels"]["job"], []).append(target["health"])
        return jobs

    expected = {"gateway": 2, "retriever": 1, "reranker": 1, "generator": 1, "vllm-worker": 2, "prometheus": 1}
    compose_stack.until(lambda: {job: healths.count("up") for job, healths in targets().items()} == expected)


def test_no_container_is_root_or_can_write_to_its_image(compose_stack: ComposeStack) -> None:
    for service in SERVICES:
        for container in compose_stack.containers(service):
            found = compose_stack.inspect(container)
            assert found["HostConfig"]["ReadonlyRootfs"], service
            assert found["HostConfig"]["CapDrop"] == ["ALL"], service
            status = docker("exec", container, "cat", "/proc/1/status", "/proc/self/status")
            for line in re.findall(r"^Uid:.*$", status, re.MULTILINE):
                assert line.split()[1] != "0", service
            with pytest.raises(AssertionError, match="Read-only"):
                compose_stack.inside(container, "touch", "/probe")
            for tool in ("gcc", "pip", "curl"):
                with pytest.raises(AssertionError):
                    compose_stack.inside(container, "which", tool)


def test_a_container_reaches_what_it_needs_and_nothing_across_networks(compose_stack: ComposeStack) -> None:
    def look(service: str) -> dict[str, bool]:
        others = [[name, port] for name, port in PORTS.items() if name != service]
        # Redis and Prometheus have Python here because they stand on the same local base.
        command = ("python3", "-c", _PROBE, json.dumps(others))
        seen: dict[str, bool] = json.loads(compose_stack.inside(compose_stack.containers(service)[0], *command))
        return seen

    with ThreadPoolExecutor(len(SERVICES)) as pool:  # a name that is not there takes seconds to be refused
        looks = dict(zip(SERVICES, pool.map(look, SERVICES), strict=True))
    assert {(service, name) for service, seen in looks.items() for name in seen if seen[name]} == REACHABLE


def test_few_networks_lead_outside(compose_stack: ComposeStack) -> None:
    def leads_outside(service: str) -> bool:
        networks = compose_stack.inspect(compose_stack.containers(service)[0])["NetworkSettings"]["Networks"]
        return not all(network["Internal"] for network in json.loads(docker("network", "inspect", *networks)))

    outside = {service for service in SERVICES if leads_outside(service)}
    assert outside == {"gateway", "retriever", "reranker", "vllm-worker", "prometheus"}


def test_secrets_reach_those_who_need_them_alone(compose_stack: ComposeStack) -> None:
    holders: dict[str, set[str]] = {}
    values = {path.name: path.read_text().strip() for path in (compose_stack.directory / "secrets").iterdir()}
    for service in SERVICES:
        container = compose_stack.containers(service)[0]
        environment = docker("exec", container, "env") + json.dumps(compose_stack.inspect(container)["Config"])
        assert not [name for name, value in values.items() if value in environment], service
        for name in compose_stack.inside(container, "sh", "-c", "ls /run/secrets 2>/dev/null || true").split():
            holders.setdefault(name, set()).add(service)
    assert holders == {
        "CAPSTAN_IDENTITY_SECRET": {"gateway", "generator", "retriever", "reranker", "documents"},
        "CAPSTAN_GATEWAY_ADMIN_KEY": {"gateway"},
        "CAPSTAN_GATEWAY_REDIS_URL": {"gateway"},
        "keys.yaml": {"gateway"},
        "redis.conf": {"redis"},
    }


def test_images_say_their_size(images: Images) -> None:
    for name in ("gateway", "generator", "retriever", "reranker", "jobs"):
        assert re.search(rf"capstan/{name}:local built in \d+ s: [\d,]+ MB", images.said)
