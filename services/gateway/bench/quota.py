"""What a reserve and its settle cost in this process: `python services/gateway/bench/quota.py [redis-url]`.

Memory, and Redis when a URL is given, 32 requests at a time. CPU is this process's; with Redis the wall
time includes Redis's own work, on whatever core that gets.
"""

import argparse
import asyncio
import time

import uvloop
from prometheus_client import CollectorRegistry

from capstan.gateway.config import Tenant
from capstan.gateway.quota import MemoryQuota, Quota
from capstan.gateway.quota_redis import RedisQuota

CONCURRENT = 32
TENANTS = [f"bench-{number}" for number in range(8)]
LIMITS = Tenant(requests_per_minute=10**9, tokens_per_minute=10**12, max_concurrent=10**6, monthly_budget_usd=10**9)


async def one(quota: Quota, tenant: str) -> None:
    """One request."""
    reservation = await quota.reserve(tenant, LIMITS, 300, 50, counted=True)
    quota.settle(reservation, 200, 30)


async def client(quota: Quota, tenant: str, requests: int) -> None:
    """Requests one after the other, with a turn of the event loop between them, as a connection has them."""
    for _ in range(requests):
        await one(quota, tenant)
        await asyncio.sleep(0)


async def idle(requests: int) -> None:
    """What the harness itself costs."""
    for _ in range(requests):
        await asyncio.sleep(0)


async def measure(name: str, quota: Quota | None, requests: int) -> None:
    """Print microseconds a request."""
    each = requests // CONCURRENT
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(
        *(client(quota, TENANTS[i % len(TENANTS)], each) if quota else idle(each) for i in range(CONCURRENT))
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    scale = 1e6 / (each * CONCURRENT)
    print(f"{name:8} {cpu * scale:6.1f} µs CPU {wall * scale:6.1f} µs wall, per reserve + settle")


async def main(url: str | None, requests: int) -> None:
    """Run all."""
    await measure("harness", None, requests)
    await measure("memory", MemoryQuota(), requests)
    if url:
        quota = RedisQuota(url, timeout_s=1.0, replicas=1, registry=CollectorRegistry())
        await quota.start()
        await measure("redis", quota, requests)
        await quota.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="such as redis://127.0.0.1:6379/0")
    parser.add_argument("--requests", type=int, default=100_000)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.url, arguments.requests))
