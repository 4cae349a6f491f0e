"""One of several processes that use a tenant's quota at the same time.

    racer.py url tenant tokens-per-minute seed seconds lease-seconds

Requests run side by side, are refused, aborted at any moment, or use part of what they reserved. Each line
it prints is what one request has used: tokens and micro-dollars.
"""

import asyncio
import os
import random
import sys
import time

from prometheus_client import CollectorRegistry

from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Refusal
from capstan.gateway.quota_redis import RedisQuota

TASKS = 16


async def request(quota: RedisQuota, tenant: str, limits: Tenant, dice: random.Random) -> None:
    """One request; what it used by the time it ends, however it ends, is settled."""
    reservation = await quota.reserve(tenant, limits, dice.randint(1, 200), dice.randint(0, 900), counted=True)
    tokens = cost = 0
    try:
        for _ in range(dice.randint(0, 4)):
            await asyncio.sleep(dice.random() * 0.004)
            tokens = dice.randint(tokens, reservation.tokens)
            cost = dice.randint(cost, reservation.cost)
    finally:
        os.write(1, b"%d %d\n" % (tokens, cost))
        quota.settle(reservation, tokens, cost)


async def client(quota: RedisQuota, tenant: str, limits: Tenant, dice: random.Random, end: float) -> None:
    """Requests one after the other, a third of them aborted."""
    while time.monotonic() < end:
        task = asyncio.create_task(request(quota, tenant, limits, dice))
        if dice.random() < 1 / 3:
            await asyncio.sleep(dice.random() * 0.004)
            task.cancel()
        try:
            await task
        except Refusal:
            await asyncio.sleep(dice.random() * 0.002)
        except asyncio.CancelledError:
            pass


async def main(url: str, tenant: str, tokens_per_minute: str, seed: str, seconds: str, lease_s: str) -> None:
    """Race."""
    quota = RedisQuota(url, timeout_s=10, replicas=4, registry=CollectorRegistry(), lease_s=float(lease_s))
    await quota.start()
    limits = Tenant(
        requests_per_minute=10**6, tokens_per_minute=int(tokens_per_minute), max_concurrent=40, monthly_budget_usd=1000
    )
    dice = random.Random(int(seed))
    end = time.monotonic() + float(seconds)
    await asyncio.gather(*(client(quota, tenant, limits, dice, end) for _ in range(TASKS)))
    await quota.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
