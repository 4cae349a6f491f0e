"""vLLM's metrics, with its names, labels and buckets (0.32), fed by the simulated engine."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from capstan.worker.simulate.engine import Request
from capstan.worker.simulate.prefix_cache import BLOCK

if TYPE_CHECKING:
    from capstan.worker.simulate.engine import Engine

_LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)


class Metrics:
    """The observer of one engine; `registry` is what `/metrics` shows."""

    def __init__(self, model: str, max_loras: int) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"engine": "0", "model_name": model}
        self._max_loras = max_loras
        self._queries = self._counter("prefix_cache_queries", "Prefix cache queries, in tokens.")
        self._hits = self._counter("prefix_cache_hits", "Prefix cache hits, in tokens.")
        self._cached = self._counter("prompt_tokens_cached", "Number of cached prompt tokens.")
        self._prompt = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self._generated = self._counter("generation_tokens", "Number of generation tokens processed.")
        self._counter("num_preemptions", "Number of preemptions.")
        self._ttft = self._histogram("time_to_first_token_seconds", _TTFT)
        self._itl = self._histogram("inter_token_latency_seconds", _ITL)
        self._tpot = self._histogram("request_time_per_output_token_seconds", _ITL)
        self._e2e = self._histogram("e2e_request_latency_seconds", _LATENCY)
        self._queue = self._histogram("request_queue_time_seconds", _LATENCY)
        self._prefill = self._histogram("request_prefill_time_seconds", _LATENCY)
        self._decode = self._histogram("request_decode_time_seconds", _LATENCY)
        self._inference = self._histogram("request_inference_time_seconds", _LATENCY)
        success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            [*self._labels, "finished_reason"],
            registry=self.registry,
        )
        reasons = ("stop", "length", "abort", "error", "repetition")
        self._success = {r: success.labels(**self._labels, finished_reason=r) for r in reasons}
        rejections = Counter(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            ["model_name", "reason"],
            registry=self.registry,
        )
        self.rejected = rejections.labels(model_name=model, reason="max_num_queued_reqs")
        rejections.labels(model_name=model, reason="max_num_queued_tokens")
        self._aborted = Counter(
            "capstan_sim_aborted_requests",
            "Requests whose client went away. vLLM itself counts these nowhere.",
            registry=self.registry,
        )

    def watch(self, engine: "Engine") -> None:
        """Show the engine's state in the gauges, read at scrape time."""
        names = list(self._labels)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, names, registry=self.registry)

        running = gauge("num_requests_running", "Number of requests in model execution batches.")
        running.labels(**self._labels).set_function(lambda: len(engine.running))
        waiting = gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        waiting.labels(**self._labels).set_function(lambda: len(engine.waiting))
        usage = gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        usage.labels(**self._labels).set_function(lambda: engine.cache.usage)
        reasons = Gauge(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason.",
            [*names, "reason"],
            registry=self.registry,
        )
        reasons.labels(**self._labels, reason="capacity").set_function(lambda: len(engine.waiting))
        reasons.labels(**self._labels, reason="deferred").set(0)
        self.registry.register(_Infos(engine, self._max_loras))

    def scheduled(self, request: Request, cached_tokens: int) -> None:
        """See `Observer`."""
        self._queries.inc(len(request.prompt))
        self._hits.inc(cached_tokens)

    def token(self, request: Request, since_last: float) -> None:
        """See `Observer`."""
        self._generated.inc()
        if request.sent > 1:
            self._itl.observe(since_last)
            return
        self._ttft.observe(since_last)
        self._prompt.inc(len(request.prompt))
        if request.lease is not None:
            self._cached.inc(request.lease.cached_tokens)

    def finished(self, request: Request, now: float) -> None:
        """See `Observer`."""
        self._success[request.finished or "error"].inc()
        self._e2e.observe(now - request.arrived)
        if not request.sent:
            return
        self._queue.observe(request.scheduled - request.arrived)
        self._prefill.observe(request.first_token - request.scheduled)
        self._decode.observe(request.last_token - request.first_token)
        self._inference.observe(request.last_token - request.scheduled)
        self._tpot.observe((request.last_token - request.first_token) / max(1, request.sent - 1))

    def aborted(self, request: Request) -> None:
        """See `Observer`."""
        self._aborted.inc()

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, list(self._labels), registry=self.registry).labels(**self._labels)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        text = f"Histogram of {name.removesuffix('_seconds').replace('_', ' ')} in seconds."
        histogram = Histogram(f"vllm:{name}", text, list(self._labels), buckets=buckets, registry=self.registry)
        return histogram.labels(**self._labels)


class _Infos(Collector):
    """The two metrics whose labels carry the information."""

    def __init__(self, engine: "Engine", max_loras: int) -> None:
        self._engine = engine
        self._max_loras = max_loras

    def collect(self) -> Iterable[Metric]:
        lora = GaugeMetricFamily(
            "vllm:lora_requests_info",
            "Running stats on lora requests.",
            labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
        )
        running = ",".join(sorted({r.adapter for r in self._engine.running if r.adapter}))
        waiting = ",".join(sorted({r.adapter for r in self._engine.waiting if r.adapter}))
        lora.add_metric([str(self._max_loras), running, waiting], 1)
        cache = GaugeMetricFamily(
            "vllm:cache_config_info",
            "Information of the LLMEngine CacheConfig",
            labels=["block_size", "num_gpu_blocks", "enable_prefix_caching", "engine"],
        )
        cache.add_metric([str(BLOCK), str(self._engine.cache.capacity), "True", "0"], 1)
        return (lora, cache)
