import random

from hypothesis import given
from hypothesis import strategies as st

from capstan.gateway.engine import Load, read

PAGE = b"""\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 5.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc_of_another{engine="0"} 9
"""


def test_what_waits_for_capacity_counts_and_what_is_deferred_does_not():
    assert read(PAGE) == Load(2.0, 0.25)


def test_an_older_worker_tells_no_reasons():
    page = b"\n".join(line for line in PAGE.splitlines() if b"by_reason" not in line)
    assert read(page) == Load(7.0, 0.25)


def test_engines_of_one_worker_are_summed_and_the_fullest_cache_counts():
    page = PAGE + PAGE.replace(b'engine="0"', b'engine="1"').replace(b" 0.25", b" 0.75")
    assert read(page) == Load(4.0, 0.75)


def test_a_model_name_may_hold_anything():
    assert read(PAGE.replace(b'"m"', b'"{a} b, reason=c}"')) == Load(2.0, 0.25)


def test_a_page_without_the_samples_is_no_reading():
    assert read(b"") is None
    assert read(b"<html>vllm:num_requests_waiting</html>") is None
    assert read(PAGE.replace(b" 0.25", b" NaN")) is None


@given(st.integers(0, 2**32))
def test_garbage_is_not_read_and_never_raises(seed):
    draw = random.Random(seed)
    page = bytearray(PAGE)
    for _ in range(20):
        page[draw.randrange(len(page))] = draw.randrange(256)
    read(bytes(page))
