import orjson
import pytest

from capstan.gateway.upstream_connection import Silent

METRICS = b'vllm:num_requests_waiting{engine="0"} %d\nvllm:kv_cache_usage_perc{engine="0"} %g\n'


@pytest.fixture
def readings(monkeypatch):
    """Notes what a gate is told of its engines."""

    def watch(pool):
        told = []
        monkeypatch.setattr(pool.gate, "engine", lambda *reading: told.append(reading))
        return told

    return watch


async def test_a_probe_finds_who_is_down_and_who_is_back(make_router, caplog):
    router = make_router({"p": {"urls": ["http://w0:8000", "http://w1:8000"], "max_concurrent": 10}})
    pool = router.pools["p"]
    first = pool.members[0]
    first.upstream.die()
    await router.probe()
    await router.probe()
    assert [m.health.word for m in pool.members] == ["down", "up"]
    assert pool.gate.limit == 10
    first.upstream.live()
    await router.probe()
    assert first.health.word == "starting"
    assert pool.gate.limit == 20
    assert [r.message for r in caplog.records] == ["upstream down", "upstream up"]


@pytest.mark.parametrize("answer", [(500, b""), (503, b"draining"), Silent("it did not answer")])
async def test_anything_but_200_is_down(make_router, answer):
    router = make_router({"p": {"urls": ["http://w0:8000"]}})
    (member,) = router.pools["p"].members
    member.upstream.answers[b"/health"] = answer
    await router.probe()
    assert member.health.word == "down"


async def test_each_kind_is_asked_in_its_own_way(make_router):
    pools = {
        "worker": {"urls": ["http://w"]},
        "service": {"kind": "capstan", "urls": ["http://s"]},
        "hosted": {"kind": "openai", "urls": ["http://h"]},
    }
    router = make_router(pools)
    await router.probe()
    asked = {name: pool.members[0].upstream.fetched for name, pool in router.pools.items()}
    assert asked == {"worker": [b"/health", b"/metrics"], "service": [b"/readyz"], "hosted": []}


async def test_the_gate_hears_of_all_engines(make_router, readings):
    router = make_router({"p": {"urls": ["http://w0:8000", "http://w1:8000"]}})
    pool = router.pools["p"]
    told = readings(pool)
    pool.members[0].upstream.answers[b"/metrics"] = (200, METRICS % (3, 0.5))
    pool.members[1].upstream.answers[b"/metrics"] = (200, METRICS % (4, 0.9))
    await router.probe()
    assert told == [(7.0, 0.9, 2)]


async def test_stale_readings_are_dropped(make_router, readings, clock):
    router = make_router({"p": {"urls": ["http://w0:8000", "http://w1:8000"]}}, probe_interval_s=2)
    pool = router.pools["p"]
    told = readings(pool)
    for member in pool.members:
        member.upstream.answers[b"/metrics"] = (200, METRICS % (9, 0.99))
    await router.probe()
    pool.members[0].upstream.answers[b"/metrics"] = Silent("no answer")
    pool.members[1].upstream.answers[b"/metrics"] = (200, METRICS % (0, 0.1))
    clock.advance(5)
    await router.probe()
    clock.advance(2)
    await router.probe()
    assert told == [(18.0, 0.99, 2), (9.0, 0.99, 2), (0.0, 0.1, 2)]
    pool.members[1].upstream.answers[b"/metrics"] = (500, b"")
    clock.advance(7)
    await router.probe()
    assert len(told) == 3


async def test_adapters_are_learned_from_the_worker_and_forgotten_with_it(make_router):
    models = {"base": {"pool": "p"}, "a": {"pool": "p", "adapter": "/a"}}
    router = make_router({"p": {"urls": ["http://w0:8000"]}}, models)
    (member,) = router.pools["p"].members
    cards = [{"id": "base", "parent": None}, {"id": "a", "parent": "base"}]
    member.upstream.answers[b"/v1/models"] = (200, orjson.dumps({"data": cards}))
    await router.probe()
    assert member.adapters == {"a"}
    member.upstream.answers[b"/v1/models"] = (200, b'{"data": 5}')
    await router.probe()
    assert member.adapters == {"a"}
    member.upstream.die()
    await router.probe()
    assert member.adapters == set()
