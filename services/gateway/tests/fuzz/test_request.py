"""The request's body: any bytes, any JSON."""

from typing import Any

import orjson
import pytest
from fuzz.bytes_on_a_wire import spoiled
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan.gateway.api import APIS, Api
from capstan.gateway.outcome import Refusal
from capstan.gateway.request import ParsedRequest, parse

DEEP = b'{"model":"m","stream":true,"stream_options":{},"messages":' + b"[" * 300 + b"]" * 300 + b"}"

apis = st.sampled_from(list(APIS.values()))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3),
    ),
    max_leaves=8,
)
known = st.fixed_dictionaries(
    {},
    optional={
        "model": st.one_of(st.just("m"), values),
        "stream": st.one_of(st.booleans(), values),
        "stream_options": st.one_of(
            st.none(),
            st.fixed_dictionaries({}, optional={"include_usage": st.one_of(st.booleans(), values), "x": values}),
            values,
        ),
        "max_tokens": st.one_of(st.integers(-1, 5), values),
        "max_completion_tokens": st.one_of(st.integers(-1, 5), values),
        "n": st.one_of(st.integers(-1, 200), values),
        "prompt": st.one_of(st.lists(st.text(max_size=3), max_size=4), values),
        "messages": values,
        "user": values,
    },
)
named = known.map(lambda fields: {"model": "m", "stream": True, **fields})
objects = st.one_of(
    known,
    named,
    named,
    st.builds(lambda a, b: {**a, **b}, st.dictionaries(st.text(max_size=3), values, max_size=3), named),
)
padding = st.sampled_from([b"", b" ", b"\r\n\t "])
texts = st.builds(
    lambda before, value, after, pretty: (
        before + orjson.dumps(value, option=orjson.OPT_INDENT_2 if pretty else 0) + after
    ),
    padding,
    st.one_of(objects, values),
    padding,
    st.booleans(),
)
words = [
    b'"stream_options":{"include_usage":false},',
    b'"stream":true,',
    b"{",
    b"}",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"1e400",
    b"NaN",
]


def parsed(api: Api, raw: bytes) -> ParsedRequest | None:
    """None: refused, with a status that blames the client."""
    try:
        return parse(api, raw)
    except Refusal as refusal:
        _blames_the_client(refusal)
        return None


def _blames_the_client(refusal: Refusal) -> None:
    assert refusal.status_code == 400
    assert refusal.detail


@given(apis, st.one_of(texts, spoiled(texts, words), st.binary(max_size=30)))
@example(APIS["/v1/chat/completions"], DEEP)
@example(APIS["/v1/chat/completions"], b'{"model":"m","stream":true,"stream_options":null}')
@example(
    APIS["/v1/completions"],
    b'{"model":"m","stream":true,"model":"n","stream_options":{"include_usage":true},"stream_options":{}}',
)
@settings(max_examples=1000, deadline=None)
def test_a_body_is_understood_or_refused(api: Api, raw: bytes) -> None:
    request = parsed(api, raw)
    if request is None:
        return
    given_ = orjson.loads(raw)
    sent = orjson.loads(request.body)
    assert request.model == given_["model"] == sent["model"]
    assert request.stream is bool(given_.get("stream"))
    assert request.answers >= bool(api.limits)
    assert request.output_tokens is None or request.output_tokens >= bool(api.limits)
    if request.stream and api.usage_on_request:
        assert sent["stream_options"]["include_usage"]
        options = given_.pop("stream_options", None) or {}
        added = sent.pop("stream_options")
        if not options.get("include_usage"):
            assert added.pop("include_usage") is True
            options.pop("include_usage", None)
            assert not request.forward_usage
        else:
            assert request.forward_usage
        assert added == options
    assert sent == given_


@given(apis, texts)
@settings(max_examples=300, deadline=None)
def test_renamed_it_differs_by_the_name_alone(api: Api, raw: bytes) -> None:
    request = parsed(api, raw)
    if request is not None:
        assert orjson.loads(request.named("another")) == {**orjson.loads(request.body), "model": "another"}


def test_what_is_nested_too_deeply_to_be_renamed_is_refused() -> None:
    request = parse(APIS["/v1/embeddings"], DEEP)
    with pytest.raises(Refusal, match="nested"):
        request.named("another")


def test_what_is_nested_too_deeply_to_be_changed_is_refused() -> None:
    with pytest.raises(Refusal, match="nested"):
        parse(APIS["/v1/chat/completions"], DEEP)
