from hypothesis import given
from hypothesis import strategies as st

from capstan.worker.simulate.prefix_cache import BLOCK, PrefixCache


def prompt(*blocks: int, rest: int = 1) -> list[int]:
    """A prompt of full blocks, each filled with its number, and `rest` more tokens."""
    return [block for block in blocks for _ in range(BLOCK)] + [999] * rest


def cached(cache: PrefixCache, tokens: list[int], adapter: str = "") -> int:
    lease = cache.acquire(tokens, 1, adapter)
    assert lease is not None
    cache.release(lease)
    return lease.cached_tokens


def test_a_prompt_seen_before_is_cached_block_by_block():
    cache = PrefixCache(100)

    assert cached(cache, prompt(1, 2)) == 0
    assert cached(cache, prompt(1, 2)) == 2 * BLOCK
    assert cached(cache, prompt(1, 3)) == BLOCK


def test_a_block_counts_only_after_the_same_beginning():
    cache = PrefixCache(100)
    cached(cache, prompt(1, 2))

    assert cached(cache, prompt(2, 2)) == 0


def test_the_last_token_is_always_computed():
    cache = PrefixCache(100)
    cached(cache, prompt(1, 2, rest=0))

    assert cached(cache, prompt(1, 2, rest=0)) == BLOCK


def test_adapters_do_not_share_blocks():
    cache = PrefixCache(100)
    cached(cache, prompt(1), "a")

    assert cached(cache, prompt(1), "b") == 0
    assert cached(cache, prompt(1), "a") == BLOCK


def test_the_least_recently_used_blocks_make_room():
    cache = PrefixCache(4)
    cached(cache, prompt(1))
    cached(cache, prompt(2))
    cached(cache, prompt(1))
    cached(cache, prompt(3, 4))  # needs three of the four blocks

    assert cached(cache, prompt(1)) == BLOCK
    assert cached(cache, prompt(2)) == 0


def test_no_room_means_waiting_and_changes_nothing():
    cache = PrefixCache(3)
    held = cache.acquire(prompt(1), 1)
    before = cache.usage

    assert cache.acquire(prompt(2), 2 * BLOCK) is None
    assert cache.usage == before
    assert held is not None
    cache.release(held)
    assert cache.acquire(prompt(2), BLOCK) is not None


def test_equal_prompts_share_their_blocks():
    cache = PrefixCache(4)
    assert cache.acquire(prompt(1, 2), 1) is not None  # two shared and one of its own

    assert cache.acquire(prompt(1, 2), 1) is not None
    assert cache.usage == 1.0


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=4), st.integers(1, 40), st.booleans()), max_size=40))
def test_never_holds_more_than_it_has_and_returns_to_empty(steps):
    cache = PrefixCache(12)
    held = []
    for blocks, answer, keep in steps:
        lease = cache.acquire(prompt(*blocks), answer)
        if lease is not None:
            held.append(lease)
            assert lease.cached_tokens <= len(prompt(*blocks)) - 1
        if held and not keep:
            cache.release(held.pop(0))
        assert cache.usage <= 1.0
    for lease in held:
        cache.release(lease)
    assert cache.usage == 0.0
