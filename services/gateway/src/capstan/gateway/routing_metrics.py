"""The state of pools and upstreams as metrics, read when they are asked for."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from capstan.gateway.member import Member
from capstan.gateway.pool import PoolState
from capstan.gateway.routing import Router

_GAUGES: tuple[tuple[str, str, Callable[[Member], float]], ...] = (
    ("healthy", "1 when the upstream may get requests.", lambda m: m.health.up and not m.health.circuit_open),
    ("circuit_open", "1 while failures in a row keep requests away.", lambda m: m.health.circuit_open),
    ("outstanding_tokens", "Tokens of the requests running there, as estimated.", lambda m: m.outstanding),
)
_POOL_GAUGES: tuple[tuple[str, str, Callable[[PoolState], float]], ...] = (
    ("running", "Requests running in a pool.", lambda p: p.gate.running),
    ("queued", "Requests waiting for a pool.", lambda p: p.gate.queued),
    ("concurrency_limit", "Requests that may run in a pool at present.", lambda p: p.gate.limit),
)
_COUNTERS: tuple[tuple[str, str, Callable[[PoolState], float]], ...] = (
    ("retries", "Requests that were sent to a second upstream.", lambda p: p.retries.used),
    ("prefix_queries", "Prompt blocks (256 bytes) that had a choice of upstreams.", lambda p: p.prefix_queries),
    ("prefix_hits", "Those that the chosen upstream had been sent before.", lambda p: p.prefix_hits),
)


class RoutingMetrics(Collector):
    """Registered as a collector, so that an upstream that is gone leaves no series behind."""

    def __init__(self, router: Router, now: Callable[[], float]) -> None:
        """`now`: the router's clock."""
        self._router = router
        self._now = now

    def collect(self) -> Iterable[Metric]:
        """One sample for each pool or upstream."""
        pools = self._router.pools.values()
        for name, text, member_value in _GAUGES:
            gauge = GaugeMetricFamily(f"capstan_gateway_upstream_{name}", text, labels=("pool", "upstream"))
            for pool in pools:
                for member in pool.members:
                    gauge.add_metric((pool.name, member.name), member_value(member))
            yield gauge
        yield self._ages()
        for name, text, pool_value in _POOL_GAUGES:
            gauge = GaugeMetricFamily(f"capstan_gateway_{name}", text, labels=("pool",))
            for pool in pools:
                gauge.add_metric((pool.name,), pool_value(pool))
            yield gauge
        for name, text, pool_value in _COUNTERS:
            counter = CounterMetricFamily(f"capstan_gateway_{name}", text, labels=("pool",))
            for pool in pools:
                counter.add_metric((pool.name,), pool_value(pool))
            yield counter

    def _ages(self) -> Metric:
        text = "Age of the load that the worker's own metrics told; old ones are not used."
        gauge = GaugeMetricFamily("capstan_gateway_upstream_metrics_age_seconds", text, labels=("pool", "upstream"))
        for pool in self._router.pools.values():
            for member in pool.members:
                if member.scraped is not None:
                    gauge.add_metric((pool.name, member.name), self._now() - member.scraped)
        return gauge
