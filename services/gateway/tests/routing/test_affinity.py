"""Prefix affinity against a simulated pool: caches that fill and forget, prompts that share their beginnings."""

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from capstan.gateway.prefix import blocks

WORKERS = 4
CACHE_BLOCKS = 400
"""Of one worker: too few for the system prompts of all groups, about 640 blocks."""
Route = Callable[[list[int], int], tuple[int, Callable[[], None]]]


class Cache:
    """A worker's prefix cache: blocks, least recently used ones dropped first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.queries = self.hits = 0

    def use(self, prompt: list[int]) -> int:
        """Returns how many leading blocks were there."""
        found = 0
        for block in prompt:
            if block not in self._blocks:
                break
            found += 1
        for block in reversed(prompt):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)
        self.queries += len(prompt)
        self.hits += found
        return found


def prompts(seed: int, count: int, groups: int = 48) -> Iterator[list[int]]:
    """Chat requests: a system prompt of 1 to 6 KiB by Zipf popularity, then a question; some conversations go on."""
    draw = random.Random(seed)
    system = ["".join(draw.choices("abcdefgh ", k=draw.randint(1024, 6144))) for _ in range(groups)]
    weights = [1 / (rank + 1) for rank in range(groups)]
    conversations: list[str] = []
    for _ in range(count):
        if conversations and draw.random() < 0.4:
            body = conversations.pop(draw.randrange(len(conversations)))
        else:
            (prompt,) = draw.choices(system, weights)
            body = '{"model":"m","messages":[{"role":"system","content":"' + prompt + '"}'
        body += ',{"role":"user","content":"' + "".join(draw.choices("ijklmnop ", k=draw.randint(100, 700))) + '"}'
        yield blocks((body + "]}").encode(), "m")
        conversations = [*conversations[-60:], body + ',{"role":"assistant","content":"' + "y" * 300 + '"}']


@dataclass
class Result:
    """What came of a run."""

    hit_rate: float
    ideal: float
    """Hit rate of one cache with all workers' memory that sees every request."""
    imbalance: float
    """Tokens of the busiest worker over the mean."""
    outstanding: float
    """The same of the tokens that run at a time, over time."""


def simulate(route: Route, seed: int, count: int = 4000) -> Result:
    """Poisson arrivals; a request runs for its uncached prompt at 8,000 and its answer at 50 tokens/s."""
    draw = random.Random(seed)
    caches = [Cache(CACHE_BLOCKS) for _ in range(WORKERS)]
    ideal = Cache(WORKERS * CACHE_BLOCKS)
    served, running, over_time = [0] * WORKERS, [0] * WORKERS, [0.0] * WORKERS
    ends: list[tuple[float, int, int, int, Callable[[], None]]] = []
    now = 0.0
    for number, prompt in enumerate(prompts(seed, count)):
        after = now + draw.expovariate(10.0)
        while ends and ends[0][0] <= after:
            end, _, worker, tokens, ended = heapq.heappop(ends)
            over_time = [total + load * (end - now) for total, load in zip(over_time, running, strict=True)]
            now = end
            running[worker] -= tokens
            ended()
        over_time = [total + load * (after - now) for total, load in zip(over_time, running, strict=True)]
        now = after
        answer = draw.randint(20, 300)
        tokens = 64 * (len(prompt) + 1) + answer
        worker, ended = route(prompt, tokens)
        cached = caches[worker].use(prompt)
        ideal.use(prompt)
        served[worker] += tokens
        running[worker] += tokens
        seconds = 64 * (len(prompt) + 1 - cached) / 8000 + answer / 50
        heapq.heappush(ends, (now + seconds, number, worker, tokens, ended))
    hits = sum(c.hits for c in caches) / sum(c.queries for c in caches)
    imbalance = max(served) * WORKERS / sum(served)
    return Result(hits, ideal.hits / ideal.queries, imbalance, max(over_time) * WORKERS / sum(over_time))


def round_robin() -> Route:
    turn = iter(range(10**9))
    return lambda prompt, tokens: (next(turn) % WORKERS, lambda: None)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_prompts_find_their_cache_and_the_load_stays_even(make_pool, seed):
    pool = make_pool(WORKERS, max_concurrent=1000)

    def affinity(prompt: list[int], tokens: int) -> tuple[int, Callable[[], None]]:
        member = pool.pick(prompt, exclude=None, model="m")
        pool.began(member, prompt, tokens)
        return pool.members.index(member), lambda: pool.ended(member, tokens)

    ours, theirs = simulate(affinity, seed), simulate(round_robin(), seed)
    assert ours.hit_rate >= 0.95 * ours.ideal
    assert ours.imbalance <= 1.25
    assert ours.outstanding <= 1.25
    assert ours.hit_rate > theirs.hit_rate + 0.1
