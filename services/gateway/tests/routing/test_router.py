import asyncio
from collections import Counter

import pytest

from capstan.gateway.config import ConfigError, ModelsFile
from capstan.gateway.outcome import Outcome, Refusal

POOLS = {"p": {"urls": ["http://w0:8000", "http://w1:8000"]}, "q": {"urls": ["http://x0:8000"]}}


def config(pools, models=None):
    return ModelsFile.model_validate({"pools": pools, "models": models or {"m": {"pool": next(iter(pools))}}})


def test_an_unknown_model_is_refused_with_the_known_ones_but_not_with_hundreds(make_router):
    router = make_router(POOLS, {f"m{i}": {"pool": "p"} for i in range(500)})
    assert router.find("m7").pool == "p"
    with pytest.raises(Refusal) as refused:
        router.find("x" * 10_000)
    assert refused.value.outcome is Outcome.MODEL_NOT_FOUND
    assert "m0, m1" in refused.value.detail
    assert "480 more" in refused.value.detail
    assert len(refused.value.detail) < 500


def test_a_split_follows_its_weights_and_one_key_always_gets_the_same_arm(make_router):
    arms = {"a": {"pool": "p"}, "b": {"pool": "q"}, "never": {"pool": "q"}}
    router = make_router(POOLS, {**arms, "ab": {"split": {"a": 75, "never": 0, "b": 25}}})
    drawn = Counter(router.resolve("ab", f"user-{i}")[0] for i in range(4000))
    assert drawn["a"] == pytest.approx(3000, abs=120)
    assert drawn["never"] == 0
    assert {router.resolve("ab", "user-1")[0] for _ in range(10)} == {router.resolve("ab", "user-1")[0]}
    arm, model = router.resolve("ab", "user-1")
    assert model is router.models[arm]
    assert router.resolve("a", "anything") == ("a", router.models["a"])


def test_two_replicas_draw_the_same_arm(make_router):
    models = {"a": {"pool": "p"}, "b": {"pool": "q"}, "ab": {"split": {"a": 1, "b": 1}}}
    one, two = make_router(POOLS, models), make_router(POOLS, models)
    assert [one.resolve("ab", str(i))[0] for i in range(50)] == [two.resolve("ab", str(i))[0] for i in range(50)]
    # fixed, so that a change of the hash, which would move users between arms, is seen
    assert "".join(one.resolve("ab", str(i))[0] for i in range(12)) == "babbaaabbbab"


def test_a_reload_keeps_what_stays(make_router):
    router = make_router(POOLS)
    p, (w0, w1) = router.pools["p"], router.pools["p"].members
    w0.health.probed(False)
    new = {"p": {"urls": ["http://w0:8000", "http://w2:8000"], "max_concurrent": 5}, "r": {"urls": ["http://y:1"]}}
    router.apply(config(new, {"n": {"pool": "r"}, "l": {"pool": "p", "adapter": "/l"}}))
    assert router.pools["p"] is p
    assert p.members[0] is w0
    assert w0.health.word == "down"
    assert [m.name for m in p.members] == ["http://w0:8000", "http://w2:8000"]
    assert w1.leaving
    assert p.adapters == {"l": "/l"}
    assert p.gate.limit == 5
    assert set(router.pools) == {"p", "r"}
    assert set(router.models) == {"n", "l"}


def test_a_pool_that_is_gone_finishes_what_it_has(make_router):
    router = make_router(POOLS)
    q = router.pools["q"]
    (member,) = q.members
    q.began(member, (), 10)
    router.apply(config({"p": POOLS["p"]}))
    assert member.upstream.closed == 1
    assert q.pick((), exclude=None, model="m") is member  # for one that still waits at the gate
    q.ended(member, 10)
    assert member.upstream.closed == 2


def test_a_key_that_is_not_set_is_a_config_error_and_changes_nothing(make_router):
    router = make_router(POOLS, environ={"GOOD": "secret"})
    hosted = {"kind": "openai", "urls": ["https://api.example/v1"]}
    with pytest.raises(ConfigError, match="pool 'h' takes its API key from BAD"):
        router.apply(config({"p": {"urls": ["http://other"]}, "h": {**hosted, "api_key_env": "BAD"}}))
    assert set(router.pools) == {"p", "q"}
    assert len(router.pools["p"].members) == 2
    router.apply(config({"h": {**hosted, "api_key_env": "GOOD"}}))
    assert router.pools["h"].members[0].upstream.api_key == "secret"


def test_a_changed_key_reaches_the_upstreams(make_router):
    environ = {"KEY": "old"}
    hosted = {"h": {"kind": "openai", "urls": ["https://api.example/v1"], "api_key_env": "KEY"}}
    router = make_router(hosted, environ=environ)
    environ["KEY"] = "new"
    router.apply(config(hosted))
    assert [m.upstream.api_key for m in router.pools["h"].members] == ["new"]


def test_a_pool_that_becomes_a_hosted_api_starts_afresh(make_router):
    router = make_router(POOLS)
    router.pools["q"].members[0].health.probed(False)  # nothing would ever probe it again
    router.apply(config({"q": {**POOLS["q"], "kind": "openai"}}))
    assert [m.health.word for m in router.pools["q"].members] == ["up"]


async def test_running_it_probes_at_once_and_survives_a_broken_look(make_router, caplog):
    router = make_router(POOLS, probe_interval_s=0.001)
    dead, broken = router.pools["p"].members
    dead.upstream.die()
    broken.upstream.answers[b"/health"] = RuntimeError("a bug")
    running = asyncio.create_task(router.run())
    while len(dead.upstream.fetched) < 3:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert dead.health.word == "down"
    assert "the next one follows" in caplog.text


def test_closing_closes_every_upstream(make_router):
    router = make_router(POOLS)
    router.close()
    assert all(m.upstream.closed for pool in router.pools.values() for m in pool.members)
