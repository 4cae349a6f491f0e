import asyncio
from collections.abc import Awaitable, Callable

import pytest

from loadtest.overload.client import Arrival, Call, Target, offer

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[]}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def load(*answers: Answer, grace_s: float = 5.0) -> list[Call]:
    """Send one request for each of `answers` to a server that gives them in turn."""
    waiting = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                await next(waiting)(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = Target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {"amber": "id.secret"})
        return await offer([Arrival(0.0, "amber", b"{}") for _ in answers], [target], grace_s=grace_s)


def answer(data: bytes, *, close: bool = False) -> Answer:
    async def give(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            writer.close()

    return give


async def hang(writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM + chunk(EVENT))


def error(status: int, body: bytes) -> Answer:
    return answer(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (answer(STREAM + chunk(EVENT) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"), "completed"),
        (answer(STREAM + chunk(EVENT) + b"0\r\n\r\n"), "broken"),
        (answer(STREAM + chunk(EVENT), close=True), "broken"),
        (answer(b"", close=True), "unreachable"),
        (error(503, b'{"error":{"code":"queue_full"}}'), "503 queue_full"),
        (error(429, b"slow down"), "429"),
        (error(503, b'{"error":{"code":503}}'), "503"),
    ],
)
async def test_every_request_has_an_outcome(given: Answer, outcome: str) -> None:
    [call] = await load(given)

    assert call.outcome == outcome


async def test_what_does_not_end_is_cut_off_and_still_counts_its_wait() -> None:
    [call] = await load(hang, grace_s=0.05)

    assert (call.outcome, call.status) == ("unfinished", 200)
    assert call.first is not None
    assert call.ended > call.first


async def test_nobody_listening_is_an_outcome_too() -> None:
    [call] = await offer([Arrival(0.0, "amber", b"{}")], [Target("http://127.0.0.1:9")], grace_s=5.0)

    assert call.outcome == "unreachable"
