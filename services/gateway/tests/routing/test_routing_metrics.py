import pytest
from prometheus_client import CollectorRegistry

from capstan.gateway.config import ModelsFile
from capstan.gateway.routing_metrics import RoutingMetrics


@pytest.fixture
def watched(make_router, clock):
    router = make_router({"p": {"urls": ["http://w0:8000", "http://w1:8000"], "breaker_failures": 1}})
    registry = CollectorRegistry()
    registry.register(RoutingMetrics(router, clock))

    def read(name, upstream=None):
        labels = {"pool": "p", **({"upstream": upstream} if upstream else {})}
        return registry.get_sample_value(f"capstan_gateway_{name}", labels)

    return router, read


def test_what_each_upstream_is_doing(watched, clock):
    router, read = watched
    pool = router.pools["p"]
    first, second = pool.members
    pool.began(first, (), 500)
    pool.failed(second)
    first.scraped = clock()
    clock.advance(3)
    assert read("upstream_outstanding_tokens", first.name) == 500
    assert (read("upstream_healthy", first.name), read("upstream_healthy", second.name)) == (1, 0)
    assert (read("upstream_circuit_open", first.name), read("upstream_circuit_open", second.name)) == (0, 1)
    assert read("upstream_metrics_age_seconds", first.name) == 3
    assert read("upstream_metrics_age_seconds", second.name) is None


def test_retries_and_prefix_hits_are_counted(watched):
    router, read = watched
    pool = router.pools["p"]
    pool.retries.take()
    for _ in range(2):
        pool.began(pool.pick([1, 2, 3], exclude=None, model="m"), [1, 2, 3], 10)
    assert (read("retries_total"), read("prefix_queries_total"), read("prefix_hits_total")) == (1, 6, 3)


def test_an_upstream_that_is_gone_leaves_no_series(watched):
    router, read = watched
    config = {"pools": {"p": {"urls": ["http://w1:8000"]}}, "models": {"m": {"pool": "p"}}}
    router.apply(ModelsFile.model_validate(config))
    assert read("upstream_healthy", "http://w0:8000") is None
    assert read("upstream_healthy", "http://w1:8000") == 1
