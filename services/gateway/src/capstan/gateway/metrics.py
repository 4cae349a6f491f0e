"""Counters and histograms for the request path: a list increment each, turned into Prometheus families when scraped.

prometheus_client's own take a lock and walk their buckets for every observation, about 2 µs each; a request makes ten.
The gateway counts on one event loop, so that no lock is needed.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

Labels = tuple[str, ...]
Traced = tuple[str, float]
"""The trace of an observation and its Unix time, for an exemplar."""


class Cell:
    """One time series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counter(Collector):
    """A counter by labels."""

    def __init__(self, name: str, help: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._help, self._labels = name, help, labels
        self._cells: dict[Labels, Cell] = {}
        registry.register(self)

    def cell(self, *labels: str) -> Cell:
        """The time series with these label values; keep it and add to its `value`."""
        found = self._cells.get(labels)
        if found is None:
            found = self._cells[labels] = Cell()
        return found

    def describe(self) -> Iterable[Metric]:
        """Prometheus: the family without samples."""
        yield CounterMetricFamily(self._name, self._help, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        """Prometheus: the family with its samples."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, cell in list(self._cells.items()):
            family.add_metric(labels, cell.value)
        yield family


class Buckets:
    """One time series of a histogram."""

    __slots__ = ("_bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        """The last traced value of each bucket that has one."""

    def observe(self, value: float, traced: Traced | None) -> None:
        """Count one value."""
        place = bisect_left(self._bounds, value)
        self.counts[place] += 1
        self.sum += value
        if traced is not None:
            self.exemplars[place] = Exemplar({"trace_id": traced[0]}, value, traced[1])


class Histogram(Collector):
    """A histogram by labels."""

    def __init__(
        self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._help, self._labels, self._bounds = name, help, labels, bounds
        self._cells: dict[Labels, Buckets] = {}
        registry.register(self)

    def cell(self, *labels: str) -> Buckets:
        """The time series with these label values."""
        found = self._cells.get(labels)
        if found is None:
            found = self._cells[labels] = Buckets(self._bounds)
        return found

    def describe(self) -> Iterable[Metric]:
        """Prometheus: the family without samples."""
        yield HistogramMetricFamily(self._name, self._help, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        """Prometheus: the family with its samples."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for labels, cell in list(self._cells.items()):
            total = 0
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for place, (name, count) in enumerate(zip(names, cell.counts, strict=True)):
                total += count
                exemplar = cell.exemplars.get(place)
                buckets.append((name, float(total)) if exemplar is None else (name, float(total), exemplar))
            family.add_metric(labels, buckets, cell.sum)
        yield family
