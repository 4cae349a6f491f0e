"""Four gateway processes on one Redis, in front of one worker: one quota, one set of tenants, one ledger."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml
from redis_server import RedisServer
from simulated_worker import MODEL, Worker

ADMIN_KEY = "admin-key-of-at-least-32-characters"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
REPLICAS = 4
SECONDS = 6.0
CLIENTS = 24
TOKENS_PER_MINUTE = 12_000


class Cluster:
    """The gateways, each known by the port that it listens on."""

    def __init__(self, directory: Path, secret: str) -> None:
        self.redis = RedisServer(directory)
        self.worker = Worker(CAPSTAN_WORKER_MAX_NUM_SEQS="64")
        models = directory / "models.yaml"
        pool = {"urls": [self.worker.url], "max_concurrent": 64, "slow_start_s": 0}
        models.write_text(yaml.safe_dump({"pools": {"p": pool}, "models": {MODEL: {"pool": "p"}}}))
        self.ports = [_free_port() for _ in range(REPLICAS)]
        self._processes = []
        for port in self.ports:
            own = {
                "PORT": port,
                "MODELS_FILE": models,
                "REDIS_URL": self.redis.url,
                "ADMIN_KEY": ADMIN_KEY,
                "REPLICAS": REPLICAS,
            }
            environ = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "CAPSTAN_IDENTITY_SECRET": secret,
            }
            environ |= {f"CAPSTAN_GATEWAY_{name}": str(value) for name, value in own.items()}
            command = [sys.executable, "-m", "capstan.gateway"]
            self._processes.append(
                subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.worker.kill()
        self.redis.kill()

    async def until_up(self) -> None:
        async def served() -> bool:
            try:
                statuses = await self.everywhere("GET", "/readyz")
                async with _client(self.worker.port) as client:
                    return statuses == [200] * REPLICAS and (await client.get("/health")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(served)

    async def everywhere(self, method: str, path: str, **options: Any) -> list[int]:
        """The status that each gateway answers, all asked at once."""
        return list(await asyncio.gather(*(self.status(port, method, path, **options) for port in self.ports)))

    async def status(self, port: int, method: str, path: str, **options: Any) -> int:
        async with _client(port) as client:
            return (await client.request(method, path, **options)).status_code

    async def new_tenant(self, name: str, **limits: Any) -> str:
        """A key of a new tenant, made at the first gateway."""
        async with _client(self.ports[0]) as client:
            (await client.put(f"/admin/v1/tenants/{name}", json=limits, headers=ADMIN)).raise_for_status()
            answer = await client.post(f"/admin/v1/tenants/{name}/keys", headers=ADMIN)
            return str(answer.raise_for_status().json()["key"])

    async def chats(self, key: str) -> list[int]:
        """The status of a short chat at each gateway."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        return await self.everywhere(
            "POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}
        )

    async def knows(self, key: str) -> list[int]:
        """The status with which each gateway lists its models for a key; that takes nothing of a quota."""
        return await self.everywhere("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})

    async def metric(self, start: str, ports: list[int] | None = None) -> float:
        """The sum of the samples whose lines begin with `start`."""
        total = 0.0
        for port in ports or self.ports:
            async with _client(port) as client:
                text = (await client.get("/metrics")).text
            total += sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))
        return total

    async def settled(self, tenant: str) -> int:
        """Tokens that all gateways have counted for a tenant."""
        labels = f'capstan_gateway_tokens_total{{model="{MODEL}",tenant="{tenant}",type='
        return round(await self.metric(f'{labels}"input"') + await self.metric(f'{labels}"output"'))

    async def ledger(self, tenant: str) -> tuple[int, int]:
        """Requests and tokens as the last gateway reports them."""
        async with _client(self.ports[-1]) as client:
            answer = await client.get("/admin/v1/usage", params={"tenant": tenant}, headers=ADMIN)
        totals = answer.raise_for_status().json()["totals"]
        return totals["requests"], totals["input_tokens"] + totals["output_tokens"]

    async def running(self) -> float:
        return await self.metric("capstan_gateway_running{")


def _client(port: int) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def until(condition: Any, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cluster"), "test-secret-of-at-least-32-characters")
    yield running
    running.stop()


@pytest.fixture
async def cluster(running_cluster: Cluster) -> Cluster:
    await running_cluster.until_up()
    return running_cluster


async def ask(
    port: int, key: str, words: int, max_tokens: int, *, stream: bool, patience: float | None
) -> tuple[int, int]:
    """Status and tokens of one request over a connection of its own; (0, 0) if the client lost its patience."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "word " * words}], "max_tokens": max_tokens}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = orjson.dumps(body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)
        async with asyncio.timeout(patience):
            answer = await reader.read(-1)
    except TimeoutError:
        writer.transport.abort()
        return 0, 0
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    status = int(answer.split(b" ", 2)[1])
    if status != 200:
        return status, 0
    _, _, usage = answer.rpartition(b'"total_tokens":')
    return status, int(usage[: len(usage) - len(usage.lstrip(b"0123456789"))])


async def test_racing_clients_never_get_more_than_the_limit(cluster: Cluster) -> None:
    limits = {
        "requests_per_minute": 10**6,
        "tokens_per_minute": TOKENS_PER_MINUTE,
        "max_concurrent": 64,
        "monthly_budget_usd": 100,
    }
    key = await cluster.new_tenant("racer", **limits)
    await until(lambda: _all(cluster.chats(key)))
    began = time.monotonic()
    # Much first, so that the quota is never full again and its TAT is all that was charged.
    await ask(cluster.ports[0], key, 2000, 200, stream=False, patience=None)
    before, settled_before = (await cluster.redis.quota("racer"))["tokens"], await cluster.settled("racer")
    completed = refused = aborted = got = 0

    async def client(seed: int) -> None:
        nonlocal completed, refused, aborted, got
        dice = random.Random(seed)
        while time.monotonic() < began + SECONDS:
            patience = dice.random() * 0.05 if dice.random() < 1 / 3 else 10
            wanted = dice.randint(1, 40), dice.randint(1, 40)
            status, tokens = await ask(
                dice.choice(cluster.ports), key, *wanted, stream=dice.random() < 0.5, patience=patience
            )
            completed, refused, aborted = (
                completed + (status == 200),
                refused + (status == 429),
                aborted + (status == 0),
            )
            got += tokens
            assert status in (0, 200, 429)
            if status == 429:
                await asyncio.sleep(dice.random() * 0.05)

    await asyncio.gather(*(client(seed) for seed in range(CLIENTS)))
    await until(lambda: _is(cluster.running(), 0))
    await until(lambda: _is(cluster.redis.call("ZCARD", "capstan:quota:{racer}:leases"), 0))
    seconds = time.monotonic() - began
    assert completed > 20
    assert refused > 20
    assert aborted > 20

    settled = await cluster.settled("racer")
    assert settled > TOKENS_PER_MINUTE  # they did reach the limit
    assert settled <= TOKENS_PER_MINUTE * (1 + seconds / 60)
    assert settled - settled_before >= got
    state = await cluster.redis.quota("racer")
    assert (state["running"], state["held"]) == (0, 0)
    charged = (state["tokens"] - before) * TOKENS_PER_MINUTE / 60
    assert charged == pytest.approx(settled - settled_before, abs=0.5)

    async def ledgers_agree() -> bool:
        return (await cluster.ledger("racer"))[1] == settled

    await until(ledgers_agree)


async def test_usage_adds_up_to_what_the_worker_made(cluster: Cluster) -> None:
    key = await cluster.new_tenant("honest")
    await until(lambda: _all(cluster.chats(key)))
    counts = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
    worker = [cluster.worker.port]
    made = sum([await cluster.metric(count, worker) for count in counts])
    known = await cluster.settled("honest")
    dice = random.Random(7)
    answers = await asyncio.gather(
        *(
            ask(port, key, dice.randint(1, 40), dice.randint(1, 20), stream=dice.random() < 0.5, patience=None)
            for port in cluster.ports * 10
        )
    )
    assert {status for status, _ in answers} == {200}
    used = sum(tokens for _, tokens in answers)
    assert await cluster.settled("honest") - known == used
    assert sum([await cluster.metric(count, worker) for count in counts]) - made == used
    requests = await cluster.metric(
        'capstan_gateway_requests_total{model="' + MODEL + '",outcome="completed",tenant="honest"'
    )

    async def booked() -> bool:
        return await cluster.ledger("honest") == (requests, known + used)

    await until(booked)


async def test_a_tenant_is_known_and_a_key_revoked_everywhere_within_a_second(cluster: Cluster) -> None:
    key = await cluster.new_tenant("brief")
    await until(lambda: _all(cluster.chats(key)), 1)
    path = f"/admin/v1/tenants/brief/keys/{key.partition('.')[0]}"
    assert await cluster.status(cluster.ports[2], "DELETE", path, headers=ADMIN) == 204
    await until(lambda: _all(cluster.chats(key), 401), 1)


async def test_a_redis_that_hangs_stops_nobody_and_opens_nothing(cluster: Cluster) -> None:
    key, few = await cluster.new_tenant("steady"), await cluster.new_tenant("few", requests_per_minute=REPLICAS)
    await until(lambda: _all(cluster.chats(key)))
    cluster.redis.pause()
    try:
        for _ in range(3):
            assert await cluster.chats(key) == [200] * REPLICAS
            assert await cluster.chats("steady-0.unknown") == [401] * REPLICAS
        assert await cluster.metric("capstan_gateway_quota_fallback ") == REPLICAS
        assert await cluster.status(cluster.ports[0], "PUT", "/admin/v1/tenants/late", json={}, headers=ADMIN) == 503
        assert [*await cluster.chats(few), *await cluster.chats(few)] == [200] * REPLICAS + [429] * REPLICAS
    finally:
        cluster.redis.resume()
    await until(lambda: _is(cluster.metric("capstan_gateway_quota_fallback "), 0))
    again = await cluster.new_tenant("again", requests_per_minute=3)
    await until(lambda: _all(cluster.knows(again)))
    statuses = [*await cluster.chats(again), *await cluster.chats(again)]
    assert statuses.count(200) == 3
    assert statuses.count(429) == 2 * REPLICAS - 3


async def _all(statuses: Any, wanted: int = 200) -> bool:
    return set(await statuses) == {wanted}


async def _is(value: Any, wanted: float) -> bool:
    return bool(await value == wanted)
