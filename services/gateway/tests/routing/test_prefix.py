import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.gateway.prefix import BLOCK, MOST_BLOCKS, PrefixIndex, blocks


def chat(*texts, **extra):
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": t} for t in texts], **extra})


@given(st.binary(max_size=3000), st.binary(max_size=1000), st.binary(max_size=1000))
def test_prompts_share_blocks_exactly_as_far_as_they_are_equal(common, one, two):
    head = b'{"prompt":"'
    a, b = blocks(head + common + one), blocks(head + common + two)
    first, second = common + one, common + two
    equal = 0
    while equal < min(len(first), len(second)) and first[equal] == second[equal]:
        equal += 1
    shared = min((equal + len(b'"prompt":"')) // BLOCK, len(a), len(b))
    assert a[:shared] == b[:shared]
    assert all(x != y for x, y in zip(a[shared:], b[shared:], strict=False))


def test_what_stands_before_the_prompt_does_not_matter():
    long = "x" * 1000
    assert blocks(b'{"temperature":1,' + chat(long)[1:]) == blocks(chat(long))


@pytest.mark.parametrize("name", ["messages", "prompt", "input"])
def test_every_api_s_prompt_is_found(name):
    assert blocks(orjson.dumps({"model": "m", name: "x" * 600}))


def test_models_do_not_share_a_cache():
    body = chat("x" * 1000)
    assert not set(blocks(body, "one")) & set(blocks(body, "two"))


def test_short_long_and_strange_bodies():
    assert blocks(chat("hello")) == []
    assert blocks(b"[]") == []
    assert len(blocks(chat("x" * 10**6))) == MOST_BLOCKS


def test_the_longest_known_beginning_wins():
    index = PrefixIndex()
    index.add([1, 2], 0b001)
    index.add([1, 2, 3], 0b010)
    index.add([1], 0b100)
    assert index.longest([1, 2, 3, 4], 0b111) == (0b010, 3)
    assert index.longest([1, 2, 9], 0b111) == (0b011, 2)
    assert index.longest([1, 2, 3], 0b101) == (0b001, 2)
    assert index.longest([7], 0b101) == (0b101, 0)


def test_a_member_that_is_gone_is_forgotten():
    index = PrefixIndex(4)
    index.add([1, 2, 3], 0b01)
    index.add([4, 5], 0b11)  # the first ones are the old generation now
    index.forget(0b01)
    assert index.longest([1], 0b11) == (0b11, 0)
    assert index.longest([4], 0b11) == (0b10, 1)
    assert len(index) == 2


@given(st.lists(st.lists(st.integers(0, 200), max_size=10), max_size=100))
def test_memory_is_bounded_and_the_recent_is_kept(prompts):
    index = PrefixIndex(32)
    for prompt in prompts:
        index.add(prompt, 1)
        assert len(index) <= 64
    for prompt in prompts[-3:]:
        assert index.longest(prompt, 1)[1] == len(prompt)
