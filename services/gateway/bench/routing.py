"""What routing costs a request, in µs of one core: `python services/gateway/bench/routing.py`.

For pools of 1, 4 and 16 members and bodies of 280 B to 16 KiB: by each policy, the choice of a member and its
bookkeeping from beginning to end; `blocks` is the hashing of the prompt for prefix affinity.
"""

import time
import timeit
from collections.abc import Callable
from functools import partial

from capstan.gateway.balance import POLICIES
from capstan.gateway.config import ModelsFile
from capstan.gateway.pool import PoolState
from capstan.gateway.prefix import blocks
from capstan.gateway.routing import Router
from capstan.gateway.upstream import Upstream
from capstan.gateway.upstream_connection import Watchdog

CALLS = 20_000


def pool_of(members: int) -> PoolState:
    """A pool that is never connected to."""
    urls = [f"http://127.0.0.1:{20_000 + i}" for i in range(members)]
    config = ModelsFile.model_validate({"pools": {"p": {"urls": urls}}, "models": {"m": {"pool": "p"}}})
    return Router(config, connect=partial(Upstream, watchdog=Watchdog()), now=time.monotonic).pools["p"]


def route(pool: PoolState, prompt: list[int], policy: str) -> None:
    """One request."""
    member = pool.pick(prompt, exclude=None, model="m", routing=policy)
    assert member is not None
    pool.began(member, prompt, 300)
    pool.succeeded(member)
    pool.ended(member, 300)


def microseconds(work: Callable[[], object]) -> float:
    """CPU time, the best of five."""
    return min(timeit.repeat(work, timer=time.process_time, number=CALLS, repeat=5)) / CALLS * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'members':>8} {'body B':>8}", *(f"{name:>15}" for name in (*POLICIES, "blocks")))
    for members in (1, 4, 16):
        pool = pool_of(members)
        for size in (280, 1024, 16_384):
            body = b'{"model":"m","messages":[{"role":"user","content":"'
            body += b"x" * (size - len(body) - 4) + b'"}]}'
            prompt = blocks(body, "m")
            hashed = {name: prompt if name == "prefix" else [] for name in POLICIES}
            costs = [microseconds(partial(route, pool, given, name)) for name, given in hashed.items()]
            costs.append(microseconds(partial(blocks, body, "m")))
            print(f"{members:8} {size:8}", *(f"{cost:15.2f}" for cost in costs))


if __name__ == "__main__":
    main()
