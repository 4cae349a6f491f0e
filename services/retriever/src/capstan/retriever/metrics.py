"""Prometheus metrics of the retriever; the README says what to do about each."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from capstan.common.telemetry import exemplar
from capstan.retriever.store import Counts

_SEARCH_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_EMBED_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1)
_EXTRACTION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """One set per application, in its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._documents = Gauge("capstan_retriever_documents", "Documents in the index.", registry=r)
        self._chunks = Gauge("capstan_retriever_chunks", "Chunks in the index.", registry=r)
        self._pending = Gauge("capstan_retriever_chunks_pending", "Chunks without a dense vector.", registry=r)
        self.ingested = Counter(
            "capstan_retriever_ingested_total", "Documents received, by what became of them.", ("status",), registry=r
        )
        self.files = Counter(
            "capstan_retriever_files_total", "Files uploaded, by what became of them.", ("outcome",), registry=r
        )
        self.extraction_seconds = Histogram(
            "capstan_retriever_extraction_seconds",
            "Time to read one uploaded file, waiting for other files included.",
            buckets=_EXTRACTION_BUCKETS,
            registry=r,
        )
        self.embedding_seconds = Histogram(
            "capstan_retriever_embedding_seconds",
            "Time to embed one chunk in the background.",
            buckets=_EMBED_BUCKETS,
            registry=r,
        )
        self.embedded = Counter("capstan_retriever_embedded_total", "Chunks that got their dense vector.", registry=r)
        self.embedding_failures = Counter(
            "capstan_retriever_embedding_failures_total", "Chunks that could not be embedded, each try.", registry=r
        )
        self.build_failures = Counter(
            "capstan_retriever_build_failures_total", "Failed steps of building a new index.", registry=r
        )
        self.search_seconds = Histogram(
            "capstan_retriever_search_seconds",
            "Time of a search, by mode and phase.",
            ("mode", "phase"),
            buckets=_SEARCH_BUCKETS,
            registry=r,
        )
        self.empty_searches = Counter(
            "capstan_retriever_empty_searches_total", "Searches without a result.", ("mode",), registry=r
        )

    def search(self, mode: str, embed_s: float, search_s: float, found: bool) -> None:
        """Count one search."""
        traced = exemplar()
        self.search_seconds.labels(mode, "embed").observe(embed_s, traced)
        self.search_seconds.labels(mode, "search").observe(search_s, traced)
        if not found:
            self.empty_searches.labels(mode).inc()

    def index(self, counts: Counts) -> None:
        """Publish the size of the index."""
        self._documents.set(counts.documents)
        self._chunks.set(counts.chunks)
        self._pending.set(counts.pending)
