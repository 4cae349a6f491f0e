"""Prometheus metrics of the reranker; the README says what to do about each."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One set per application, in its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.seconds = Histogram("capstan_reranker_seconds", "Time to score one request.", buckets=_BUCKETS, registry=r)
        self.passages = Counter(
            "capstan_reranker_passages_total",
            "Passages scored, by whether they were remembered.",
            ("cached",),
            registry=r,
        )
        self.tokens = Counter("capstan_reranker_tokens_total", "Tokens read.", registry=r)
        self.waiting = Gauge("capstan_reranker_waiting", "Requests in work or waiting.", registry=r)
        self.refused = Counter("capstan_reranker_refused_total", "Requests answered with 503.", registry=r)
