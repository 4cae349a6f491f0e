from collections import Counter
from typing import get_args

import pytest

from capstan.gateway.balance import POLICIES
from capstan.gateway.config import Model
from capstan.gateway.member import Place
from capstan.gateway.prefix import blocks

LONG = blocks(b'{"messages":"' + b"x" * 2000, "m")


def send(pool, prompt=(), tokens=100, exclude=None, model="m", routing="prefix"):
    member = pool.pick(prompt, exclude=exclude, model=model, routing=routing)
    if member is not None:
        pool.began(member, prompt, tokens)
    return member


def test_the_member_with_the_fewest_outstanding_tokens_is_chosen(make_pool):
    pool = make_pool(3)
    first, second, third = (send(pool, tokens=t) for t in (5000, 100, 5000))
    assert len({first.name, second.name, third.name}) == 3
    assert send(pool) is second
    assert send(pool) is second
    pool.ended(first, 5000)
    assert send(pool) is first


def test_equals_take_turns(make_pool):
    pool = make_pool(3)
    chosen = Counter()
    for _ in range(30):
        member = send(pool)
        chosen[member.name] += 1
        pool.ended(member, 100)
    assert set(chosen.values()) == {10}


def test_a_prompt_returns_to_where_it_was(make_pool):
    pool = make_pool(4)
    first = send(pool, LONG)
    for _ in range(20):
        pool.ended(first, 100)
        assert send(pool, LONG) is first
    assert (pool.prefix_queries, pool.prefix_hits) == (21 * len(LONG), 20 * len(LONG))


def test_without_looking_at_prompts_the_least_loaded_is_chosen(make_pool):
    pool = make_pool(2)
    first = send(pool, LONG, routing="least_tokens")
    second = send(pool, LONG, routing="least_tokens")
    assert second is not first
    assert pool.prefix_hits == 0


def test_every_policy_can_be_named_in_a_models_file():
    assert set(get_args(Model.model_fields["routing"].annotation)) == set(POLICIES)


def test_a_prompt_that_all_want_spreads_before_its_member_is_overloaded(make_pool):
    pool = make_pool(4)
    for _ in range(200):
        send(pool, LONG)
    outstanding = [m.outstanding for m in pool.members]
    assert max(outstanding) <= 1.25 * sum(outstanding) / 4 + 2 * 100


def test_no_member_gets_more_than_its_places_while_another_has_one(make_pool):
    pool = make_pool(2, max_concurrent=3)
    first = send(pool, LONG, tokens=1)
    other = next(m for m in pool.members if m is not first)
    send(pool, tokens=10**6)
    assert [send(pool, LONG, tokens=1) for _ in range(2)] == [first, first]
    assert send(pool, LONG, tokens=1) is other


def test_what_is_down_or_open_gets_nothing(make_pool):
    pool = make_pool(3, breaker_failures=1)
    down, broken, well = pool.members
    pool.failed(down, unreachable=True)
    pool.failed(broken)
    assert {send(pool).name for _ in range(10)} == {well.name}


def test_with_none_healthy_the_least_bad_one_is_tried(make_pool, clock):
    pool = make_pool(3, breaker_failures=1, breaker_open_s=10)
    a, b, c = pool.members
    pool.failed(b)
    clock.advance(5)
    pool.failed(c)
    pool.failed(a, unreachable=True)
    assert send(pool) is b  # is up, and opened first


def test_a_lone_member_is_always_tried(make_pool):
    pool = make_pool(1, breaker_failures=1)
    pool.failed(pool.members[0], unreachable=True)
    assert send(pool) is pool.members[0]


def test_a_retry_goes_elsewhere_and_only_to_a_healthy_member(make_pool):
    pool = make_pool(2)
    first, second = pool.members
    assert send(pool, exclude=first) is second
    pool.failed(second, unreachable=True)
    assert send(pool, exclude=first) is None
    assert send(make_pool(1), exclude=first) is not None
    lone = make_pool(1)
    assert send(lone, exclude=lone.members[0]) is None


def test_a_retry_may_take_a_member_whose_places_are_full(make_pool):
    pool = make_pool(2, max_concurrent=1)
    first = send(pool)
    second = send(pool)
    assert send(pool, exclude=first) is second


def test_a_pool_without_members_has_nothing_to_offer(make_router):
    assert send(make_router({"p": {"dns": "http://workers:8000"}}).pools["p"]) is None


def test_a_half_open_circuit_gets_one_request(make_pool, clock):
    pool = make_pool(2, breaker_failures=1, breaker_open_s=10)
    broken, well = pool.members
    pool.failed(broken)
    for _ in range(10):
        assert send(pool) is well
    clock.advance(11)
    chosen = [send(pool) for _ in range(10)]
    assert chosen.count(broken) == 1
    pool.succeeded(broken)
    assert send(pool) is broken


def test_what_comes_back_is_not_flooded(make_pool, clock):
    pool = make_pool(2, slow_start_s=10, max_concurrent=1000)
    old, back = pool.members
    back.health.probed(False)
    back.health.probed(True)
    clock.advance(2)
    for _ in range(120):
        send(pool)
    assert back.running == pytest.approx(20, abs=2)  # a share of 0.2 to 1
    clock.advance(9)
    for _ in range(80):
        send(pool)
    assert back.running == old.running == 100


def test_slow_start_ends_for_the_prefix_too(make_pool, clock):
    pool = make_pool(2, slow_start_s=10)
    home = send(pool, LONG)
    pool.ended(home, 100)
    home.health.probed(False)
    assert send(pool, LONG) is not home


def test_prompts_keep_their_members_when_all_come_back_together(make_pool):
    pool = make_pool(4, slow_start_s=10)
    home = send(pool, LONG)
    for member in pool.members:
        member.health.probed(False)
        member.health.probed(True)
    assert send(pool, LONG) is home


def test_the_gate_knows_how_many_can_take_requests(make_pool):
    pool = make_pool(3, max_concurrent=10, breaker_failures=1)
    assert pool.gate.limit == 30
    pool.failed(pool.members[0])
    assert pool.gate.limit == 20
    pool.failed(pool.members[1], unreachable=True)
    pool.failed(pool.members[2], unreachable=True)
    assert pool.gate.limit == 10  # the least bad one is still tried
    pool.succeeded(pool.members[0])
    assert pool.gate.limit == 10
    pool.members[1].health.probed(True)
    pool.capacity_changed()
    assert pool.gate.limit == 20


def test_members_that_stay_are_the_same_objects_and_those_that_go_finish(make_pool):
    pool = make_pool(3)
    kept, gone = pool.members[0], pool.members[1]
    pool.began(gone, LONG, 100)
    pool.set_members([Place("http://w0:8000/"), Place("http://new:8000")])
    assert [m.name for m in pool.members] == ["http://w0:8000", "http://new:8000"]
    assert pool.members[0] is kept
    assert gone.upstream.closed == 1
    pool.ended(gone, 100)
    assert gone.upstream.closed == 2  # the connection that its last request gave back
    assert send(pool, LONG).name in {m.name for m in pool.members}


def test_a_new_member_does_not_inherit_the_prefixes_of_one_that_went(make_pool):
    pool = make_pool(2)
    home = send(pool, LONG)
    other = next(m for m in pool.members if m is not home)
    pool.set_members([other.place, Place("http://new:8000")])
    assert pool.index.longest(LONG, 0b11) == (0b11, 0)


def test_members_never_share_a_bit(make_pool):
    pool = make_pool(3)
    for round_ in range(10):
        pool.set_members([Place(f"http://w{i}:8000") for i in range(round_ % 4, 4 + round_ % 3)])
        assert len({m.bit for m in pool.members}) == len(pool.members)
        assert all(m.bit.bit_count() == 1 for m in pool.members)


def test_an_adapter_s_requests_prefer_members_that_have_it_until_those_are_full(make_router):
    urls = [f"http://w{i}:8000" for i in range(3)]
    models = {"base": {"pool": "p"}, "a": {"pool": "p", "adapter": "/adapters/a"}}
    pool = make_router({"p": {"urls": urls, "max_concurrent": 100}}, models).pools["p"]
    home = pool.members[1]
    home.adapters.add("a")
    assert [send(pool, model="a") for _ in range(2)] == [home, home]
    used = {send(pool, model="a").name for _ in range(20)}
    assert len(used) > 1
    assert send(pool, model="base") is not None


def test_status_tells_an_operator_what_is_going_on(make_pool):
    pool = make_pool(2)
    member = send(pool, tokens=70)
    pool.failed(next(m for m in pool.members if m is not member), unreachable=True)
    status = pool.status()
    assert {u["url"]: (u["health"], u["running"], u["outstanding_tokens"]) for u in status["upstreams"]} == {
        member.name: ("up", 1, 70),
        next(m.name for m in pool.members if m is not member): ("down", 0, 0),
    }
    assert {"limit", "running", "queued"} <= status.keys()
