"""What the streaming client counts, and what the mock sends."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from loadtest.gateway_bench.payloads import CHUNKS, request_body
from loadtest.gateway_bench.stream_load import Client, Load
from loadtest.gateway_bench.stream_mock import COHORTS, Connection, Wheel


class Pipe(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


class ManualLoop:
    """A clock that the test turns."""

    def time(self) -> float:
        return 0.0

    def call_at(self, when: float, callback: object) -> None: ...


def answer_of_the_mock(body: dict[str, object]) -> bytes:
    wheel = Wheel(ManualLoop())  # type: ignore[arg-type]
    connection, pipe = Connection(wheel), Pipe()
    connection.connection_made(pipe)
    text = json.dumps(body).encode()
    connection.data_received(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
    for _ in range(CHUNKS * COHORTS):
        wheel.turn()
    return pipe.written


@pytest.fixture
def stream() -> bytes:
    return answer_of_the_mock(json.loads(request_body(stream=True)))


@pytest.fixture
async def load() -> Load:
    load = Load("http://127.0.0.1:1", ["authorization: Bearer key"])
    load.open = False  # no second stream
    load.counting = True
    return load


def client(load: Load) -> tuple[Client, Pipe]:
    one, pipe = Client(load), Pipe()
    one.connection_made(pipe)
    return one, pipe


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 193, 100_000])
async def test_a_stream_counts_however_it_is_cut(load: Load, stream: bytes, size: int) -> None:
    one, pipe = client(load)
    for piece in pieces(stream, size):
        one.data_received(piece)
    assert (load.chunks, len(load.delays_ns), len(load.stream_ns), load.failures) == (CHUNKS, CHUNKS, 1, {})
    assert b"authorization: Bearer key\r\n" in pipe.written


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        (lambda whole: whole.replace(b"200 OK", b"503 No"), "status 503"),
        (lambda whole: whole.replace(b"[DONE]", b"[GONE]"), "truncated stream"),
        (lambda whole: whole.replace(b"@", b"#", 1), "truncated stream"),
        (lambda whole: b"nonsense", "not HTTP"),
    ],
)
async def test_a_wrong_answer_is_a_failure(load: Load, stream: bytes, change: object, failure: str) -> None:
    one, _ = client(load)
    one.data_received(change(stream))  # type: ignore[operator]
    assert [reason.partition(":")[0] for reason in load.failures] == [failure]
    assert (load.stream_ns, load.running) == ([], 0)


async def test_a_connection_that_breaks_is_a_failure(load: Load, stream: bytes) -> None:
    one, _ = client(load)
    one.data_received(stream[: len(stream) // 2])
    one.connection_lost(None)
    assert load.failures == {"connection closed mid-stream": 1}


async def test_the_next_stream_follows_on_the_same_connection(load: Load, stream: bytes) -> None:
    load.open = True
    one, pipe = client(load)
    one.data_received(stream)
    assert pipe.written.count(b"POST") == load.begun == 2
    assert not pipe.closed


def test_usage_comes_to_those_who_ask(stream: bytes) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert b'"usage"' in answer_of_the_mock(asked)
    assert b'"usage"' not in stream
