"""How many replicas a load needs: a queueing simulation of an engine whose step takes longer the fuller its batch is.

An engine generates in steps, one token for each running request (iteration-level scheduling: Yu et al., "Orca", OSDI
2022). A request that waits joins the next step if fewer than `max_running` run, and its prompt is computed in that
step. So a step takes `step_s(b) + p / prefill_tok_s` for b running requests and p new prompt tokens. Both come from
closed loops of one server behind the gateway (TTFT, TPOT, requests a second); the check is against open loops, which
the fit has not seen.

    python -m loadtest.llm_bench.capacity --rate 20     # replicas for 20 requests a second of the measured server
"""

import argparse
import heapq
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from loadtest.llm_bench.bench import SEED
from loadtest.llm_bench.client import Sample
from loadtest.llm_bench.figures import Slo, figures
from loadtest.llm_bench.results import RESULT
from loadtest.llm_bench.sweep import holds
from loadtest.llm_bench.workload import poisson, requests

_SECONDS = 300.0
_LONGEST = 20_000
"""Requests of one simulated load at most."""
_MOST = 4096
"""Replicas beyond which nobody asks this model."""


class CapacityError(Exception):
    """The curve cannot be fitted, or no number of replicas is enough; the message says why."""


@dataclass(frozen=True)
class Engine:
    """A fitted server."""

    steps: tuple[tuple[float, float], ...]
    """Mean batch size and seconds of a step, measured; straight lines between, and on beyond the last."""
    prefill_tok_s: float
    max_running: int = 32
    prompt_tokens_added: float = 0.0
    """Tokens that the chat template adds to a prompt's words."""

    def step_s(self, running: float) -> float:
        """Seconds of a step with so many running requests and no new prompt."""
        points = self.steps
        if len(points) == 1 or running <= points[0][0]:
            return points[0][1]
        after = next((n for n, (batch, _) in enumerate(points) if batch >= running), len(points) - 1)
        (b0, s0), (b1, s1) = points[after - 1], points[after]
        return s0 + (s1 - s0) * (running - b0) / (b1 - b0)


def fit(curve: Sequence[dict[str, Any]], max_running: int = 32) -> Engine:
    """Fit an engine to closed-loop figures (`concurrency`, TTFT, TPOT, tokens of a prompt and of an answer).

    At concurrency 1 a first token takes its prompt's computing and a step; how fast prompts are computed follows from
    there. At concurrency c, the prompts of the other c - 1 users are computed between a request's tokens, and for a
    share of the time that follows from the requests a second; what is left of TPOT is the step's own. A loop whose last
    users have finished runs fewer than c: the batch is requests a second by their mean time (Little's law).
    Raises `CapacityError`.
    """
    rows = sorted(curve, key=lambda row: row["concurrency"])
    if not rows or rows[0]["concurrency"] != 1:
        raise CapacityError("the curve needs a point at concurrency 1")
    alone = rows[0]
    prompt = alone["prompt_tokens_each"]
    one_step = alone["tpot_ms"]["p50"] / 1e3
    first = alone["ttft_ms"]["p50"] / 1e3
    prefill = prompt / max(first - one_step, 1e-4)
    steps: list[tuple[float, float]] = []
    for row in rows:
        users, rate = row["concurrency"], row["requests_s"]
        others = rate * (1 - 1 / users) * row["prompt_tokens_each"] / prefill
        step = row["tpot_ms"]["mean"] / 1e3 * (1 - others)
        steps.append((rate * row["e2e_ms"]["mean"] / 1e3, max(step, steps[-1][1] if steps else 1e-5)))
    words = sum(len(r.prompt.split()) for r in requests("random", 2000, SEED)) / 2000
    return Engine(tuple(steps), prefill, max_running, max(0.0, prompt - words))


@dataclass(slots=True)
class _Running:
    sample: Sample
    prompt: float
    left: int


def simulate(
    engine: Engine, shape: str, rate: float, replicas: int, seconds: float = _SECONDS, seed: str = SEED
) -> list[Sample]:
    """Requests of `shape`, `rate` a second, each to the replica with the fewest requests, as the gateway routes."""
    number = min(_LONGEST, max(50, round(rate * seconds)))
    asked = requests(shape, number, f"{seed} {rate:.4f}")
    arrivals = poisson(rate, number, f"{seed} {rate:.4f}")
    waiting: list[deque[_Running]] = [deque() for _ in range(replicas)]
    running: list[list[_Running]] = [[] for _ in range(replicas)]
    turns: list[tuple[float, int, int]] = []  # end of a step, order, replica
    order = count()
    samples = []

    def begin(replica: int, now: float) -> None:
        """Start the replica's next step, if it has anything to do."""
        prompts = 0.0
        while waiting[replica] and len(running[replica]) < engine.max_running:
            job = waiting[replica].popleft()
            prompts += job.prompt
            running[replica].append(job)
        if running[replica]:
            step = engine.step_s(len(running[replica])) + prompts / engine.prefill_tok_s
            heapq.heappush(turns, (now + step, next(order), replica))

    def end(replica: int, now: float) -> None:
        for job in running[replica]:
            job.left -= 1
            job.sample.token_times.append(now)
            if not job.left:
                job.sample.ended, job.sample.outcome = now, "completed"
        running[replica] = [job for job in running[replica] if job.left]
        begin(replica, now)

    for at, request in zip(arrivals, asked, strict=True):
        while turns and turns[0][0] <= at:
            ended, _, replica = heapq.heappop(turns)
            end(replica, ended)
        words = len(request.prompt.split()) + len(request.system.split())
        sample = Sample(at, request.output_tokens, sent=at, output_tokens=request.output_tokens)
        samples.append(sample)
        least = min(range(replicas), key=lambda n: len(waiting[n]) + len(running[n]))
        idle = not running[least]
        waiting[least].append(_Running(sample, words + engine.prompt_tokens_added, request.output_tokens))
        if idle:
            begin(least, at)
    while turns:
        ended, _, replica = heapq.heappop(turns)
        end(replica, ended)
    return samples


def predict(
    engine: Engine, shape: str, rate: float, replicas: int, slo: Slo, seconds: float = _SECONDS
) -> dict[str, Any]:
    """Figures of a rate, as a sweep has them."""
    return {"rate": rate, **figures(simulate(engine, shape, rate, replicas, seconds), slo)}


def sustained(engine: Engine, shape: str, slo: Slo, replicas: int = 1, steps: int = 9) -> float:
    """The highest rate that keeps the SLO, to a part in 2^`steps`."""
    good, bad = 0.0, 1.0
    while bad < _MOST and holds(predict(engine, shape, bad, replicas, slo), slo):
        good, bad = bad, bad * 2
    for _ in range(steps):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if holds(predict(engine, shape, middle, replicas, slo), slo) else (good, middle)
    return good


def replicas_for(engine: Engine, shape: str, rate: float, slo: Slo) -> int:
    """The fewest replicas that keep the SLO at `rate`. Raises `CapacityError` if no number does."""
    if not holds(predict(engine, shape, 0.01, 1, slo), slo):
        raise CapacityError("a single request on an idle server misses the SLO: no number of replicas helps")
    low, high = 0, 1
    while not holds(predict(engine, shape, rate, high, slo), slo):
        low, high = high, high * 2
        if high > _MOST:
            raise CapacityError(f"more than {_MOST} replicas")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(predict(engine, shape, rate, middle, slo), slo) else (middle, high)
    return high


def check(engine: Engine, points: Sequence[dict[str, Any]], measured: float | None, slo: Slo) -> dict[str, Any]:
    """The model's figures beside those of a measured sweep, which it was not fitted to."""
    rows = []
    for point in points:
        seconds = point["requests"] / point["rate"]
        found = predict(engine, point["shape"], point["rate"], 1, slo, seconds)
        both = {"measured": point, "predicted": found}
        rows.append(
            {
                "rate": point["rate"],
                **{
                    f"{metric}_{q}_{who}": one[f"{metric}_ms"][q]
                    for metric, q in (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"))
                    for who, one in both.items()
                },
            }
        )
    rate = sustained(engine, "random", slo)
    error = round(rate / measured - 1, 4) if measured else None
    return {"points": rows, "sustained_predicted": round(rate, 3), "sustained_measured": measured, "error": error}


def of_results(comparisons: Mapping[str, Any]) -> tuple[Engine, Slo]:
    """The engine fitted to a result file's curve, and the SLO of its sweep. Raises `CapacityError`."""
    if not all("settings" in comparisons.get(name, {}) for name in ("curve", "sustained")):
        raise CapacityError("no measured curve and sweep: run 'make bench-llm' first")
    return fit(list(comparisons["curve"]["arms"].values())), Slo(**comparisons["sustained"]["settings"]["slo"])


def main() -> None:
    """Print the replicas for a rate."""
    parser = argparse.ArgumentParser(prog="capacity", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--shape", default="random", help="lengths of prompts and answers")
    arguments = parser.parse_args()
    try:
        engine, slo = of_results(json.loads(RESULT.read_text()) if RESULT.exists() else {})
        number = replicas_for(engine, arguments.shape, arguments.rate, slo)
    except CapacityError as error:
        parser.exit(1, f"error: {error}\n")
    found = predict(engine, arguments.shape, arguments.rate, number, slo)
    print(json.dumps({"replicas": number, "ttft_ms": found["ttft_ms"], "tpot_ms": found["tpot_ms"]}))


if __name__ == "__main__":
    main()
