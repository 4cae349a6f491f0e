"""What a vLLM worker says of its own load: a few samples of its /metrics."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_SAMPLE = re.compile(
    rb"^vllm:(num_requests_waiting|num_requests_waiting_by_reason|kv_cache_usage_perc)(?:\{(.*)\})? (\S+)", re.MULTILINE
)


class Load(NamedTuple):
    """One worker's load."""

    waiting: float
    """Requests that wait for a place in the batch or the KV cache."""
    kv_usage: float
    """Part of the KV cache in use, 0 to 1; the fullest one of several engines."""


def read(text: bytes) -> Load | None:
    """The load in a page of metrics (names as of vLLM 0.32), or None if it is not there.

    Waiting counts requests held back for lack of capacity, where vLLM tells the reasons apart; what it defers for
    another reason, such as a transfer, no smaller concurrency would help.
    """
    waiting: float | None = None
    capacity: float | None = None
    usage: float | None = None
    for name, labels, value in _samples(text):
        if name == b"num_requests_waiting":
            waiting = (waiting or 0.0) + value
        elif name == b"kv_cache_usage_perc":
            usage = max(usage or 0.0, value)
        elif b'reason="capacity"' in labels:
            capacity = (capacity or 0.0) + value
    queued = waiting if capacity is None else capacity
    return None if queued is None or usage is None else Load(queued, usage)


def _samples(text: bytes) -> Iterator[tuple[bytes, bytes, float]]:
    for name, labels, value in _SAMPLE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if number == number:  # not NaN
            yield name, labels, number
