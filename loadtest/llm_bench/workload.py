"""What is asked: prompts of random words, lengths of three shapes, arrivals of a Poisson process; all from a seed.

Lengths are words that GPT-like tokenizers write as one token each, so that no tokenizer is needed for a server whose
model is not known; how many tokens a prompt had is in the server's own count.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

Lengths = Callable[[Random], tuple[int, int]]
"""Draws the length of a prompt and of its answer, in tokens."""

_COMMON = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information "
    "back parent face others level office door health person art war history party result change morning reason "
    "research girl guy moment air teacher force education"
)
_WORDS = _COMMON.split()


@dataclass(frozen=True)
class Shape:
    """How long prompts and answers are, and what they have in common."""

    lengths: Lengths
    prefixes: int = 0
    """System prompts, of which each request begins with one, the k-th most popular with weight 1/k (Zipf's law)."""
    prefix_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and the length of the answer in tokens."""

    prompt: str
    system: str
    output_tokens: int

    def body(self, model: str, *, to_the_end: bool = True) -> dict[str, Any]:
        """A streamed chat completion. `to_the_end`: as many tokens as asked for, whatever the model would say."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": self.prompt})
        body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0.0}
        body |= {"max_tokens": self.output_tokens, "stream": True, "stream_options": {"include_usage": True}}
        return body | {"ignore_eos": True} if to_the_end else body


def _around(prompt: int, output: int) -> Lengths:
    """Evenly spread from half to one and a half of the means."""

    def draw(random: Random) -> tuple[int, int]:
        return random.randint(prompt // 2, prompt * 3 // 2), random.randint(output // 2, output * 3 // 2)

    return draw


def _sharegpt(random: Random) -> tuple[int, int]:
    """Conversations of ShareGPT: mean 161 tokens in and 338 out (Kwon et al., "PagedAttention", SOSP 2023, figure 11).

    Log-normal with those means before they are cut. The spread (sigma 1.0 and 0.8) is ours, read from that figure's
    histograms; the bounds, 4 to 1,024 tokens, are those of vLLM's own benchmark.
    """
    prompt, output = _lognormal(random, 161.0, 1.0), _lognormal(random, 338.0, 0.8)
    return min(1024, max(4, prompt)), min(1024, max(4, output))


def _lognormal(random: Random, mean: float, sigma: float) -> int:
    return round(random.lognormvariate(math.log(mean) - sigma**2 / 2, sigma))


SHAPES = {
    "random": Shape(_around(128, 64)),
    "shared-prefix": Shape(_around(32, 32), prefixes=8, prefix_tokens=512),
    "sharegpt": Shape(_sharegpt),
}


def requests(shape: str, number: int, seed: str, words_of: str = "") -> list[Request]:
    """`number` requests. The same seed gives the same lengths; `words_of` others words, so that who has his turn after
    another on the same server does not find the other's prompts in its cache."""
    lengths, content = Random(f"{seed} lengths"), Random(f"{seed} {words_of}")  # noqa: S311 - load, not secrets
    chosen = SHAPES[shape]
    systems = [words(content, chosen.prefix_tokens) for _ in range(chosen.prefixes)]
    weights = [1 / (rank + 1) for rank in range(chosen.prefixes)]
    made = []
    for _ in range(number):
        prompt, output = chosen.lengths(lengths)
        system = lengths.choices(systems, weights)[0] if systems else ""
        made.append(Request(words(content, prompt), system, output))
    return made


def poisson(rate: float, number: int, seed: str) -> list[float]:
    """Times of `number` arrivals in seconds, `rate` a second: in a Poisson process, given their number in a time,
    arrivals are independent and uniform."""
    random = Random(f"{seed} arrivals")  # noqa: S311
    return sorted(random.uniform(0, number / rate) for _ in range(number))


def mean_lengths(shape: str, number: int = 10_000) -> tuple[float, float]:
    """Mean prompt and answer of a shape in tokens, common prefixes included."""
    drawn = list(_drawn(shape, number))
    return sum(p for p, _ in drawn) / number, sum(o for _, o in drawn) / number


def _drawn(shape: str, number: int) -> Iterator[tuple[int, int]]:
    random = Random(0)  # noqa: S311
    for _ in range(number):
        prompt, output = SHAPES[shape].lengths(random)
        yield prompt + SHAPES[shape].prefix_tokens, output


def words(random: Random, number: int) -> str:
    """`number` random words."""
    return " ".join(random.choices(_WORDS, k=number))
