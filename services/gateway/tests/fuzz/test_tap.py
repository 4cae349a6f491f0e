"""The tap on streams of all three dialects, cut anywhere."""

import re
from dataclasses import dataclass

import orjson
import pytest
from fuzz.bytes_on_a_wire import cut, places, spoiled
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan.gateway.tap import StreamTap, Usage

DIALECTS = ("openai", "responses", "anthropic")
ENDINGS = (b"\n", b"\r\n", b"\r")


def flow(data: bytes, where: list[int], *, dialect: str = "openai", forward: bool = False) -> tuple[StreamTap, bytes]:
    """The tap after a whole stream, and what the client got."""
    tap = StreamTap(forward_usage=forward, dialect=dialect)
    out = b"".join([tap.feed(piece) for piece in cut(data, where)])
    return tap, out + tap.end()


@dataclass
class Event:
    """An event as a server sends it, and what the tap should make of it."""

    data: bytes
    usage: Usage | None = None
    hidden: bool = False
    """Whether a client that did not ask for usage does not get it."""


texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ['"usage":', "data: [DONE]", "[DONE]", "\n\n", "\r\n\r\n", "\ndata: x", "event: message_stop\n", '{"error": {']
    ),
)
counts = st.integers(0, 10**9)


@st.composite
def usage_objects(draw: st.DrawFn) -> tuple[dict[str, object], Usage]:
    prompt, completion, cached = draw(counts), draw(counts), draw(counts)
    fields: dict[str, object] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if draw(st.booleans()):
        fields["prompt_tokens_details"] = {"cached_tokens": cached}
        return fields, Usage(prompt, completion, cached)
    return fields, Usage(prompt, completion, 0)


def written(draw: st.DrawFn, value: object) -> bytes:
    """As data of an event: one line, or JSON over several, with and without a space."""
    space = draw(st.sampled_from([b"data: ", b"data: ", b"data:"]))
    if draw(st.integers(0, 9)):
        return space + orjson.dumps(value) + b"\n\n"
    return (
        b"".join(space + line + b"\n" for line in orjson.dumps(value, option=orjson.OPT_INDENT_2).split(b"\n")) + b"\n"
    )


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(
        st.sampled_from(["delta", "delta", "delta", "comment", "usage", "last delta with usage", "null usage", "text"])
    )
    before = draw(st.sampled_from([b"", b"", b"", b": ping\n", b"id: 7\n"]))
    delta = {"choices": [{"index": 0, "delta": {"content": draw(texts)}}]}
    if kind == "comment":
        return Event(b": " + draw(st.sampled_from([b"ping", b"data: no", b'"usage":'])) + b"\n\n")
    if kind == "text":
        return Event(before + b"data: " + draw(st.sampled_from([b"", b'{"usage":', b'"usage":{}'])) + b"\n\n")
    if kind == "usage":
        fields, usage = draw(usage_objects())
        return Event(before + written(draw, {"choices": [], "usage": fields}), usage, hidden=True)
    if kind == "last delta with usage":
        fields, usage = draw(usage_objects())
        return Event(before + written(draw, {**delta, "usage": fields}), usage)
    if kind == "null usage":
        return Event(before + written(draw, {**delta, "usage": None}))
    return Event(before + written(draw, delta))


@given(st.lists(events(), max_size=8), places, places, st.booleans(), st.sampled_from(ENDINGS), st.integers(0, 2))
@settings(max_examples=400, deadline=None)
def test_a_completion_passes_but_for_the_usage_nobody_asked_for(
    stream: list[Event], where: list[int], elsewhere: list[int], forward: bool, ending: bytes, missing: int
) -> None:
    done = b"data: [DONE]\n\n"
    data = b"".join(event.data for event in stream) + done[: len(done) - missing]
    wire = data.replace(b"\n", ending)
    tap, out = flow(wire, where, forward=forward)
    wanted = b"".join(event.data for event in stream if forward or not event.hidden) + done
    assert out.rstrip(b"\n") == wanted.rstrip(b"\n")
    assert out.endswith(b"\n\n")
    assert tap.done
    told = [event.usage for event in stream if event.usage is not None]
    assert tap.usage == (told[-1] if told else None)
    other, again = flow(wire, elsewhere, forward=forward)
    assert (again, other.events, other.usage, other.failed) == (out, tap.events, tap.usage, tap.failed)


words = [
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b"data:",
    b"data: [DONE]\n\n",
    b": x\n",
    b'"usage":',
    b"event: message_stop\n",
    b'{"error":{',
]
hostile = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(words), max_size=12).map(b"".join),
    spoiled(st.lists(events().map(lambda event: event.data), max_size=5).map(b"".join), words),
)


@given(hostile, places, st.sampled_from(DIALECTS), st.booleans())
@example(
    b'data: a\n\n\ndata: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n', [10], "openai", False
)
@example(b'"usage":\n\n\n\0', [], "openai", True)
@settings(max_examples=800, deadline=None)
def test_cuts_change_nothing(data: bytes, where: list[int], dialect: str, forward: bool) -> None:
    whole, out = flow(data, [], dialect=dialect, forward=forward)
    for places_ in (where, list(range(len(data)))):
        tap, other = flow(data, places_, dialect=dialect, forward=forward)
        assert _significant(other) == _significant(out)
        assert (tap.events, tap.done, tap.failed, tap.usage) == (whole.events, whole.done, whole.failed, whole.usage)
    if dialect != "openai" or forward:
        assert out.rstrip(b"\n") == re.sub(rb"\r\n?", b"\n", data).rstrip(b"\n")


def _significant(data: bytes) -> bytes:
    """Without the blank lines that surround events and mean nothing."""
    return re.sub(rb"\n{3,}", b"\n\n", data).strip(b"\n")


def typed(name: str, value: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **value}))


@given(st.lists(texts, max_size=5), counts, counts, places, st.sampled_from(ENDINGS))
@settings(max_examples=150, deadline=None)
def test_typed_streams_pass_whole(
    said: list[str], prompt: int, completion: int, where: list[int], ending: bytes
) -> None:
    usage = {"input_tokens": prompt, "output_tokens": completion}
    streams = {
        "responses": [
            typed("response.created", {"response": {"usage": None}}),
            *[typed("response.output_text.delta", {"delta": text}) for text in said],
            typed("response.completed", {"response": {"usage": usage}}),
        ],
        "anthropic": [
            typed("message_start", {"message": {"usage": {"input_tokens": prompt, "output_tokens": 0}}}),
            *[typed("content_block_delta", {"delta": {"text": text}}) for text in said],
            typed("message_delta", {"usage": {"output_tokens": completion}}),
            typed("message_stop", {}),
        ],
    }
    for dialect, pieces in streams.items():
        data = b"".join(pieces)
        tap, out = flow(data.replace(b"\n", ending), where, dialect=dialect)
        assert out.rstrip(b"\n") == data.rstrip(b"\n")
        assert (tap.done, tap.events, tap.usage) == (True, len(said), Usage(prompt, completion, 0))
        unfinished, _ = flow(b"".join(pieces[:-1]), where, dialect=dialect)
        assert not unfinished.done


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_huge_event_passes(dialect: str) -> None:
    event = b"data: " + orjson.dumps({"choices": [{"delta": {"content": "x\n" * 1_000_000}}]}) + b"\n\n"
    data = event + b"data: [DONE]\n\n"
    _, out = flow(data, list(range(0, len(data), 65_536)), dialect=dialect)
    assert out == data


def test_an_event_that_breaks_off_is_no_end() -> None:
    tap, _ = flow(b'data: {"choices":[]}\n\ndata: [DO', [])
    assert not tap.done
