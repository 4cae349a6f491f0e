"""The connection to Redis, without one."""

import asyncio
from typing import Any

import pytest

from capstan.gateway.redis_pipe import Connection, ConnectionLost


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
async def reasons() -> list[str]:
    return []


@pytest.fixture
async def connection(reasons: list[str]) -> Connection:
    made = Connection(5.0, reasons.append)
    made.connection_made(_Transport())
    return made


async def test_one_turn_of_the_loop_is_one_write_and_replies_come_in_order(connection: Connection) -> None:
    replies: list[Any] = []
    for word in ("a", "bb"):
        connection.send(("ECHO", word), replies.append)
    await asyncio.sleep(0)
    connection.send(("PING",), replies.append)
    await asyncio.sleep(0)
    transport: Any = connection._transport
    assert transport.written == [
        b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n*2\r\n$4\r\nECHO\r\n$2\r\nbb\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ]
    connection.data_received(b"$1\r\na\r\n$2\r")
    connection.data_received(b"\nbb\r\n+PONG\r\n")
    assert replies == [b"a", b"bb", b"PONG"]


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+one\r\n+too many\r\n"])
async def test_what_redis_would_not_say_ends_the_connection(
    connection: Connection, reasons: list[str], data: bytes
) -> None:
    replies: list[Any] = []
    connection.send(("PING",), replies.append)
    await asyncio.sleep(0)
    connection.data_received(data)
    assert connection.closed.done()
    assert len(reasons) == 1
    assert len(replies) == 1
    connection.data_received(b"+late\r\n")
    assert len(replies) == 1


async def test_all_who_wait_learn_of_the_end(connection: Connection, reasons: list[str]) -> None:
    replies: list[Any] = []
    connection.send(("PING",), replies.append)
    await asyncio.sleep(0)
    connection.send(("PING",), replies.append)
    connection.connection_lost(None)
    connection.connection_lost(None)
    assert [type(reply) for reply in replies] == [ConnectionLost, ConnectionLost]
    assert reasons == ["Redis closed the connection"]


async def test_a_busy_connection_is_late_when_its_oldest_command_is(reasons: list[str]) -> None:
    """Replies to others do not excuse a command that goes unanswered."""
    connection = Connection(0.05, reasons.append)
    connection.connection_made(_Transport())
    ended: list[Any] = []
    connection.send(("PING",), ended.append)
    async with asyncio.timeout(10):
        await connection.closed
    assert reasons == ["no reply within 0.05 s"]
    assert isinstance(ended[0], ConnectionLost)
