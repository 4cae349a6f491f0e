"""Figures of one load: percentiles of TTFT, TPOT, ITL and E2E, throughput, goodput under an SLO, failures."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from loadtest.llm_bench.client import Sample

PERCENTILES = (50, 95, 99)
MILLION = 1e6


@dataclass(frozen=True)
class Slo:
    """What a request must keep to be good, in milliseconds."""

    ttft_ms: float
    tpot_ms: float

    def kept_by(self, sample: Sample) -> bool:
        """Whether a completed request was good."""
        per_token = tpot_s(sample)
        return ttft_s(sample) * 1e3 <= self.ttft_ms and (per_token is None or per_token * 1e3 <= self.tpot_ms)


def ttft_s(sample: Sample) -> float:
    """Seconds from when the request was due to its first text."""
    return (sample.token_times[0] if sample.token_times else sample.ended) - sample.due


def tpot_s(sample: Sample) -> float | None:
    """Mean seconds a token after the first one, of this request; None for an answer of one token."""
    if sample.output_tokens < 2 or not sample.token_times:
        return None
    return (sample.token_times[-1] - sample.token_times[0]) / (sample.output_tokens - 1)


def figures(samples: Sequence[Sample], slo: Slo) -> dict[str, Any]:
    """Figures of a load. Times in milliseconds, of completed requests; rates over the time from the first request
    that was due to the last answer's end."""
    done = [sample for sample in samples if sample.outcome == "completed"]
    seconds = max(sample.ended for sample in samples) - min(sample.due for sample in samples)
    gaps = (b - a for s in done for a, b in pairwise(s.token_times))
    output = sum(sample.output_tokens for sample in done)
    good = sum(slo.kept_by(sample) for sample in done)
    outcomes = Counter(sample.outcome for sample in samples)
    return {
        "requests": len(samples),
        "completed": len(done),
        "failures": {outcome: n for outcome, n in outcomes.items() if outcome not in ("completed", "left")},
        "left": outcomes["left"],
        "short_answers": sum(sample.output_tokens < sample.asked_tokens for sample in done),
        "seconds": round(seconds, 2),
        "requests_s": round(len(done) / seconds, 4),
        "tok_s": round(output / seconds, 2),
        "prompt_tok_s": round(sum(sample.prompt_tokens for sample in done) / seconds, 2),
        "prompt_tokens_each": round(sum(sample.prompt_tokens for sample in done) / (len(done) or 1), 1),
        "output_tokens_each": round(output / (len(done) or 1), 1),
        "good": round(good / len(samples), 4),
        "goodput_s": round(good / seconds, 4),
        "send_lag_p99_ms": percentile((s.sent - s.due for s in samples if s.sent), 99),
        "ttft_ms": percentiles(map(ttft_s, done)),
        "tpot_ms": percentiles(t for t in map(tpot_s, done) if t is not None),
        "itl_ms": percentiles(gaps),
        "e2e_ms": percentiles(sample.ended - sample.due for sample in done),
    }


def percentiles(seconds: Iterable[float]) -> dict[str, float | None]:
    """`p50`, `p95`, `p99` and `mean` in milliseconds; None of nothing."""
    values = sorted(seconds)
    found = {f"p{q}": percentile(values, q) for q in PERCENTILES}
    return {**found, "mean": round(sum(values) / len(values) * 1e3, 2) if values else None}


def percentile(seconds: Iterable[float], q: float) -> float | None:
    """In milliseconds, interpolated linearly between ranks, as numpy and `vllm bench serve` do."""
    values = sorted(seconds)
    if not values:
        return None
    place = (len(values) - 1) * q / 100
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return round((values[low] + (values[high] - values[low]) * (place - low)) * 1e3, 2)


def usd_per_mtok(usd_per_hour: float, tok_s: float) -> float | None:
    """Dollars for a million output tokens on a machine of that price, busy all the time."""
    return round(usd_per_hour / (tok_s * 3600) * MILLION, 4) if tok_s else None
