"""What each request used and how it ended: metrics and one log line."""

import logging
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from capstan.gateway.outcome import Outcome
from capstan.gateway.routing import Router
from capstan.gateway.tap import Usage

log = logging.getLogger("capstan.gateway.request")

_TTFT_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
UNKNOWN = "unknown"


@dataclass(slots=True)
class Record:
    """One request's account, filled in along its path. Times are seconds of the event loop's clock."""

    request_id: str
    started: float
    tenant: str = UNKNOWN
    model: str = UNKNOWN
    stream: bool = False
    queued_s: float = 0.0
    first_byte_at: float | None = None
    usage: Usage | None = None
    outcome: Outcome = Outcome.INTERNAL_ERROR
    status: int = 0
    metered: bool = True
    dispatched: bool = False
    """On its way to an upstream, which may work for it."""


class Metering:
    """Counts requests, tokens and times. `model` and `tenant` labels hold configured names only."""

    def __init__(self, registry: CollectorRegistry, router: Router) -> None:
        labels = ("tenant", "model")
        self._requests = Counter(
            "capstan_gateway_requests_total", "Requests by how they ended.", (*labels, "outcome"), registry=registry
        )
        self._tokens = Counter("capstan_gateway_tokens_total", "Tokens settled.", (*labels, "type"), registry=registry)
        self._ttft = Histogram(
            "capstan_gateway_time_to_first_byte_seconds",
            "Arrival of a request to the first event of its stream, or to the head of a whole answer.",
            ("model",),
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self._duration = Histogram(
            "capstan_gateway_request_seconds",
            "Arrival of a request to the last byte of its answer.",
            ("model", "outcome"),
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self._queue = Histogram(
            "capstan_gateway_queue_seconds", "Wait for admission.", ("model",), buckets=_TTFT_BUCKETS, registry=registry
        )
        self._observe_pools(registry, router)

    @staticmethod
    def _observe_pools(registry: CollectorRegistry, router: Router) -> None:
        running = Gauge("capstan_gateway_running", "Requests running in a pool.", ("pool",), registry=registry)
        queued = Gauge("capstan_gateway_queued", "Requests waiting for a pool.", ("pool",), registry=registry)
        healthy = Gauge(
            "capstan_gateway_upstream_healthy", "1 when the upstream answers.", ("pool", "upstream"), registry=registry
        )
        for name, pool in router.pools.items():
            running.labels(name).set_function(partial(getattr, pool.admission, "running"))
            queued.labels(name).set_function(partial(getattr, pool.admission, "queued"))
            for upstream in pool.upstreams:
                healthy.labels(name, upstream.url).set_function(partial(getattr, upstream, "healthy"))

    def finish(self, record: Record, ended: float) -> None:
        """Account for a request that has ended."""
        seconds = ended - record.started
        self._requests.labels(record.tenant, record.model, record.outcome).inc()
        self._duration.labels(record.model, record.outcome).observe(seconds)
        fields = {
            "request_id": record.request_id,
            "tenant": record.tenant,
            "model": record.model,
            "outcome": record.outcome.value,
            "status": record.status,
            "stream": record.stream,
            "ms": round(seconds * 1e3, 1),
        }
        if record.first_byte_at is not None:
            ttft = record.first_byte_at - record.started
            self._ttft.labels(record.model).observe(ttft)
            self._queue.labels(record.model).observe(record.queued_s)
            fields["ttft_ms"] = round(ttft * 1e3, 1)
        if record.usage and record.metered:
            self._tokens.labels(record.tenant, record.model, "input").inc(record.usage.prompt)
            self._tokens.labels(record.tenant, record.model, "output").inc(record.usage.completion)
            fields["tokens"] = record.usage.total
        log.info("request", extra=fields)
