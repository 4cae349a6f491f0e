"""What is asked: arrivals at random times, prompts made of random words, tenants."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

import orjson

from loadtest.overload.client import Arrival

MODEL = "simulated"
TENANTS = ("amber", "birch", "cedar", "delta")


@dataclass(frozen=True, slots=True)
class Shape:
    """How long requests are, in words, which are the simulator's tokens: (least, most), evenly spread."""

    prompt: tuple[int, int]
    output: tuple[int, int]


def poisson(random: Random, rate: float, seconds: float) -> list[float]:
    """Arrival times of a Poisson process that has its mean number of arrivals.

    Given their number, a Poisson process's arrivals are independent and uniform. Fixing the number takes that part
    of the noise out of every figure per second.
    """
    return sorted(random.uniform(0, seconds) for _ in range(round(rate * seconds)))


def chat(random: Random, shape: Shape, system: str = "") -> bytes:
    """A streamed chat completion with exactly the output length that it asks for."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": words(random, random.randint(*shape.prompt))})
    body = {"model": MODEL, "messages": messages, "stream": True, "ignore_eos": True}
    return orjson.dumps(body | {"max_tokens": random.randint(*shape.output)})


def requests(seed: str, tenants: Sequence[str], rate: float, seconds: float, shape: Shape) -> list[Arrival]:
    """`rate` requests a second, each of a tenant drawn evenly."""
    random = Random(seed)  # noqa: S311 - load, not secrets
    return [Arrival(at, random.choice(tenants), chat(random, shape)) for at in poisson(random, rate, seconds)]


def shared_prefixes(
    seed: str, rate: float, seconds: float, shape: Shape, *, prefixes: int, prefix_words: int, exponent: float
) -> list[Arrival]:
    """Requests that begin with one of `prefixes` system prompts, the k-th most popular with weight k^-`exponent`."""
    random = Random(seed)  # noqa: S311 - load, not secrets
    systems = [words(random, prefix_words) for _ in range(prefixes)]
    weights = list(accumulate((k + 1) ** -exponent for k in range(prefixes)))
    return [
        Arrival(at, random.choice(TENANTS), chat(random, shape, random.choices(systems, cum_weights=weights)[0]))
        for at in poisson(random, rate, seconds)
    ]


def words(random: Random, number: int) -> str:
    """`number` random words."""
    return " ".join(random.choices(_VOCABULARY, k=number))


_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
_VOCABULARY = [a + b + c for a in _SYLLABLES[::3] for b in _SYLLABLES[::5] for c in ("", "n", "sta")]
