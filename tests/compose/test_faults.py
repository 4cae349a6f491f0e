"""What the Compose stack promises, and what is seen when it is put to the test: the table of docs/reliability.md."""

import threading
import time
from collections import Counter

import httpx2
from compose_stack import ComposeStack, docker
from outcomes import Outcomes
from streams import COMPLETED, FAILED_OPENLY, TRUNCATED, said, steadily, under_fault

STREAMS = 24
STOPPED = ("gateway", "generator", "retriever", "reranker", "vllm-worker", "redis")


async def test_a_worker_is_killed_under_load(compose_stack: ComposeStack, outcomes: Outcomes) -> None:
    victim = compose_stack.containers("vllm-worker")[0]
    urls = [compose_stack.url()]
    endings = await under_fault(urls, compose_stack.headers, lambda: docker("kill", victim), streams=STREAMS, tokens=40)
    assert set(endings) <= {COMPLETED, FAILED_OPENLY}
    assert endings[COMPLETED] > 0
    assert endings[FAILED_OPENLY] > 0
    after = await steadily(urls, compose_stack.headers, lambda: time.sleep(0), clients=4, tokens=4)
    assert set(after) == {COMPLETED}
    compose_stack.up("gateway", "documents", "prometheus", vllm_worker=2, gateway=2)
    outcomes.add(
        "A worker that dies takes its own streams along, each with an error event; everybody else goes on",
        f"one of two workers killed (SIGKILL) under {STREAMS} streams",
        f"{said(endings)}; the next {sum(after.values())} requests: {said(after)}",
    )


async def test_the_gateways_are_restarted_one_by_one(compose_stack: ComposeStack, outcomes: Outcomes) -> None:
    urls = [compose_stack.url(port) for port in compose_stack.ports]

    def restart() -> None:
        for container in compose_stack.containers("gateway"):
            docker("restart", "--time", "75", container)
            compose_stack.until(lambda container=container: compose_stack.health(container) == "healthy")

    endings = await steadily(urls, compose_stack.headers, restart, clients=8, tokens=20)
    assert set(endings) == {COMPLETED}
    outcomes.add(
        "A rolling restart of the gateway truncates no stream",
        "two gateways restarted one after the other (SIGTERM, drain) under 8 clients that try the other if refused",
        said(endings),
    )


async def test_redis_stops_and_comes_back(compose_stack: ComposeStack, outcomes: Outcomes) -> None:
    fallback: list[float] = []

    def outage() -> None:
        compose_stack.compose("stop", "redis")
        compose_stack.until(lambda: _gauge(compose_stack, "capstan_gateway_quota_fallback") == 1)
        fallback.append(time.monotonic())
        compose_stack.up("redis")
        compose_stack.until(lambda: _gauge(compose_stack, "capstan_gateway_quota_fallback") == 0)
        fallback.append(time.monotonic())

    endings = await steadily([compose_stack.url()], compose_stack.headers, outage, clients=4, tokens=4)
    assert set(endings) == {COMPLETED}
    outcomes.add(
        "Without Redis the gateways go on with their part of every limit, and share again when it is back",
        "Redis stopped and started under 4 clients",
        f"{said(endings)}; limits were local for {fallback[1] - fallback[0]:.0f} s, Redis's own start included",
    )


def test_the_retriever_is_killed_in_the_middle_of_an_ingest(compose_stack: ComposeStack, outcomes: Outcomes) -> None:
    acknowledged: set[str] = set()
    retried = Counter[str]()
    container = compose_stack.containers("retriever")[0]
    killed = threading.Event()

    def kill() -> None:
        docker("kill", container)
        docker("start", container)
        killed.set()

    with compose_stack.client() as client:
        for batch in range(20):
            documents = [_document(f"drill/{batch}-{i}") for i in range(16)]
            if batch == 6:
                threading.Thread(target=kill).start()
            compose_stack.until(lambda documents=documents: _ingest(client, documents, acknowledged, retried))
        assert killed.wait(60)
        assert len(acknowledged) == 320
        listed = _listed(client)
        assert acknowledged <= listed
        found = client.post("/v1/search", json={"query": "drill 19-15", "mode": "bm25"}).raise_for_status().json()
        assert found["results"][0]["document_id"].startswith("drill/")
    assert retried
    outcomes.add(
        "A document that was acknowledged is never lost",
        "retriever killed (SIGKILL) and started in the middle of an ingest; refused batches sent again",
        f"320 acknowledged, {len(acknowledged & listed)} there afterwards; {sum(retried.values())} tries refused "
        f"({', '.join(sorted(retried))})",
    )


async def test_everything_is_stopped_under_streams(compose_stack: ComposeStack, outcomes: Outcomes) -> None:
    endings = await under_fault(
        [compose_stack.url(port) for port in compose_stack.ports],
        compose_stack.headers,
        lambda: compose_stack.compose("stop"),
        streams=STREAMS,
        tokens=60,
    )
    codes = {service: _exit_codes(compose_stack, service) for service in STOPPED}
    compose_stack.up("gateway", "documents", "prometheus", vllm_worker=2, gateway=2)
    assert endings[TRUNCATED] == 0
    assert set(endings) == {COMPLETED}
    assert codes == {service: {0} for service in codes}
    outcomes.add(
        "Stopping the stack drains it: running streams end as they should, and every process exits with 0",
        f"docker compose stop under {STREAMS} streams",
        f"{said(endings)}; exit codes all 0",
    )


def _exit_codes(stack: ComposeStack, service: str) -> set[int]:
    return {stack.inspect(each)["State"]["ExitCode"] for each in stack.containers(service, stopped=True)}


def _gauge(stack: ComposeStack, name: str) -> float:
    text = httpx2.get(f"{stack.url()}/metrics", trust_env=False).text
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))


def _document(name: str) -> dict[str, object]:
    text = f"The drill {name} is written down here so that it can be found again."
    return {"id": name, "title": name, "sections": [{"heading": ["Drill"], "text": text}]}


def _ingest(
    client: httpx2.Client, documents: list[dict[str, object]], acknowledged: set[str], retried: Counter[str]
) -> bool:
    try:
        answer = client.post("/v1/documents", json={"documents": documents})
    except httpx2.TransportError as error:
        retried[type(error).__name__] += 1
        return False
    if answer.status_code != 200:
        retried[str(answer.status_code)] += 1
        return False
    acknowledged |= {result["id"] for result in answer.json()["results"]}
    return True


def _listed(client: httpx2.Client) -> set[str]:
    found: set[str] = set()
    cursor: str | None = None
    while True:
        query = {"limit": "500", "own": "true", **({"cursor": cursor} if cursor else {})}
        page = client.get("/v1/documents", params=query).raise_for_status().json()
        found |= {document["id"] for document in page["data"]}
        cursor = page["next"]
        if cursor is None:
            return found
