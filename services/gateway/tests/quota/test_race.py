"""Four processes race for one tenant's quota on one Redis."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from capstan.gateway.config import Tenant

SECONDS = 2.0
TOKENS_PER_MINUTE = 60_000
LIMITS = Tenant(tokens_per_minute=TOKENS_PER_MINUTE)


async def _race(url: str, tenant: str, *, lease_s: float, kill_first: bool) -> tuple[int, int]:
    """Tokens and micro-dollars that all requests of four processes used."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("racer.py")),
            url, tenant, str(TOKENS_PER_MINUTE), str(seed), str(SECONDS), str(lease_s),
            stdout=asyncio.subprocess.PIPE, env=environment,
        )
        for seed in range(4)
    ]  # fmt: skip
    lines: list[bytes] = []
    if kill_first:
        lines.append(await racers[0].stdout.readline())  # it is in the race
        racers[0].kill()
    for output in [asyncio.create_task(racer.communicate()) for racer in racers]:
        lines += (await output)[0].splitlines()
    assert [racer.returncode for racer in racers] == [-9 if kill_first else 0, 0, 0, 0]
    used = [tuple(map(int, line.split())) for line in lines]
    return sum(tokens for tokens, _ in used), sum(cost for _, cost in used)


@pytest.mark.parametrize("kill_first", [False, True], ids=["aborts", "aborts-and-a-crash"])
async def test_the_limit_holds_and_nothing_stays_reserved(
    redis: Any, connect: Any, tenant: str, until: Any, kill_first: bool
) -> None:
    lease_s = 1.0 if kill_first else 60.0
    quota = await connect(redis.url)
    began = time.monotonic()
    # Half a minute's tokens first, so that the quota is never full again and its TAT is all that was charged.
    first = await quota.reserve(tenant, LIMITS, TOKENS_PER_MINUTE // 2, 0, counted=True)
    quota.settle(first, first.tokens, 0)
    await quota.spent(tenant)
    before = (await redis.quota(tenant))["tokens"]

    used, cost = await _race(redis.url, tenant, lease_s=lease_s, kill_first=kill_first)

    seconds = time.monotonic() - began
    assert used > TOKENS_PER_MINUTE / 4  # they did compete
    assert first.tokens + used <= TOKENS_PER_MINUTE * (1 + seconds / 60)

    async def at_rest() -> bool:
        await quota.reserve(tenant, LIMITS, 0, 0, counted=False)  # whatever comes next ends old leases
        state = await redis.quota(tenant)
        return (state["running"], state["held"]) == (0, 0)

    await until(at_rest)
    state = await redis.quota(tenant)
    charged = (state["tokens"] - before) * TOKENS_PER_MINUTE / 60
    if kill_first:  # what a crashed process has used is not known: its requests stay charged with all they reserved
        assert used <= charged + 0.5
        assert cost >= state["spent"]
    else:
        assert used == pytest.approx(charged, abs=0.5)
        assert cost == state["spent"]
