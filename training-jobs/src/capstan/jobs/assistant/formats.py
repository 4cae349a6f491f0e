"""The command `formats`: one model in several formats on the same items, with latency, throughput and memory.

A format is a model reference, served by a worker that is started for it, or `URL#model` of a server that runs already.
Times are measured anew with every run: answers one at a time, then all test items at the recipe's concurrency.
"""

import json
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

from capstan.common.models import ModelRef
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.sampling import BASE, base_url, complete, worker
from capstan.jobs.assistant.scores import Verdicts, compared, judged, scorecard
from capstan.jobs.corpus.progress import Steps

_DTYPE = re.compile(r"dtype=torch\.(\w+)")
Now = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Format:
    """A way to serve the model: its reference, or a URL with the model's name there; perhaps with an adapter."""

    name: str
    reference: str
    adapter: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "Format":
        """`NAME=REFERENCE` or `NAME=URL#MODEL`. Raises `AssistantError`."""
        name, equals, reference = text.partition("=")
        if not equals or not name or not reference:
            raise AssistantError(f"--format {text!r}: give NAME=REFERENCE or NAME=URL#MODEL")
        if reference.startswith(("http://", "https://")) and "#" not in reference:
            raise AssistantError(f"--format {text!r}: say which model of the server: NAME=URL#MODEL")
        return cls(name, reference)


@dataclass(frozen=True, slots=True)
class _Served:
    url: str
    model: str
    pid: int | None
    log: Path | None


def measure(
    formats: Sequence[Format],
    items: Sequence[Item],
    plan: Evaluation,
    *,
    out: Path,
    cache: Path,
    seed: int,
    key: str | None = None,
    now: Now = time.perf_counter,
) -> dict[str, Any]:
    """Scorecard, times and sizes of each format, and each against the first on the same items."""
    verdicts: dict[str, Verdicts] = {}
    found: dict[str, dict[str, Any]] = {}
    for one in formats:
        Steps().say(f"format {one.name}: {one.reference}")
        with _served(one, out / "logs" / f"format-{one.name}.log") as served:
            latency = _latency(served, items[: plan.timed_items], plan, key, now)
            began = now()
            limits: dict[str, Any] = {"max_tokens": plan.max_tokens, "concurrency": plan.concurrency}
            answers = {name: text for name, (text,) in complete(served.url, served.model, items, key=key, **limits)}
            seconds = now() - began
            memory = None if served.pid is None else memory_mb(served.pid)
            computed = _computed_in(served.log)
        verdicts[one.name] = judged(items, answers)
        found[one.name] = {
            **scorecard(items, answers, verdicts[one.name]),
            **latency,
            "answers_s": round(len(items) / seconds, 3),
            "concurrency": plan.concurrency,
            "memory_mb": memory,
            "weights_mb": _weights_mb(one, cache),
            "computed_in": computed,
        }
    first, *others = [one.name for one in formats]
    steps = {f"{name} over {first}": compared(items, verdicts[name], verdicts[first], seed=seed) for name in others}
    return {"prompts": len(items), "formats": found, "steps": steps}


@contextmanager
def _served(one: Format, log: Path) -> Iterator[_Served]:
    url, _, model = one.reference.partition("#")
    if model:
        yield _Served(base_url(url), model, None, None)
        return
    adapters = {one.name: one.adapter} if one.adapter else {}
    with worker(one.reference, adapters, log=log) as running:
        yield _Served(running.url, one.name if one.adapter else BASE, running.pid, log)


def _latency(
    served: _Served, items: Sequence[Item], plan: Evaluation, key: str | None, now: Now
) -> dict[str, float | None]:
    """Medians over items that are asked one at a time; the first one warms up and is not counted."""
    firsts, per_token = list[float](), list[float]()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx2.Client(base_url=served.url, headers=headers, timeout=600, trust_env=False) as client:
        for number, item in enumerate([*items[:1], *items]):
            body = {"model": served.model, "messages": list(item.messages), "temperature": 0, "stream": True}
            times, tokens = _stream(client, {**body, "max_tokens": plan.max_tokens}, now)
            if number and times:
                firsts.append(times[0])
            if number and len(times) > 1 and tokens > 1:
                per_token.append((times[-1] - times[0]) / (tokens - 1))

    def median_ms(seconds: Sequence[float]) -> float | None:
        return round(1000 * statistics.median(seconds), 2) if seconds else None

    return {"ttft_p50_ms": median_ms(firsts), "tpot_p50_ms": median_ms(per_token)}


def _stream(client: httpx2.Client, body: Mapping[str, Any], now: Now) -> tuple[list[float], int]:
    """When text came, in seconds after the request, and how many tokens the server counted."""
    times, tokens = list[float](), 0
    began = now()
    options = {"stream_options": {"include_usage": True}}
    try:
        with client.stream("POST", "/v1/chat/completions", json={**body, **options}) as response:
            if not response.is_success:
                raise AssistantError(f"{client.base_url} answered {response.status_code} for {body['model']}")
            for line in response.iter_lines():
                if not line.startswith("data:") or line.endswith("[DONE]"):
                    continue
                event = json.loads(line[5:])
                tokens = (event.get("usage") or {}).get("completion_tokens") or tokens
                if any((choice.get("delta") or {}).get("content") for choice in event.get("choices") or ()):
                    times.append(now() - began)
    except httpx2.HTTPError as error:
        raise AssistantError(f"{client.base_url} does not answer ({type(error).__name__}); is it running?") from None
    return times, tokens


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and those it started, in MB (10^6 bytes)."""
    leader = psutil.Process(pid)
    sizes = [process.memory_full_info().pss for process in (leader, *leader.children(recursive=True))]
    return float(round(sum(sizes) / 1e6, 1))


def _weights_mb(one: Format, cache: Path) -> float | None:
    """Size of the weights on disk, an adapter's included; None of a server's."""
    if "#" in one.reference:
        return None
    places = [ModelRef.parse(one.reference).resolve(cache), *([one.adapter] if one.adapter else [])]
    files = [path for place in places for kind in ("*.safetensors", "*.gguf") for path in place.glob(kind)]
    return round(sum(path.stat().st_size for path in files) / 1e6, 1)


def _computed_in(log: Path | None) -> str | None:
    """The number format that the engine says it computes in."""
    found = _DTYPE.search(log.read_text(errors="replace")) if log and log.is_file() else None
    return found.group(1) if found else None
