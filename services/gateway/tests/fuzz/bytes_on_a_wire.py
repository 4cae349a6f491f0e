"""A transport that a test reads and feeds, and ways to spoil and to cut what goes over it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from hypothesis import strategies as st

_TURNS = 50


class FakeTransport(asyncio.Transport):
    """Keeps what is written. The protocol hears of the end in a later turn of the loop, as with a real one."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.paused = False
        self.ended = False
        """Whether `write_eof` was called: a write after it is a fault of the protocol's."""
        self._closing = False

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        if not self._closing:
            self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection ends."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run one example on a loop of its own; what would only be logged fails it."""
    faults: list[dict[str, Any]] = []

    async def example() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        await main()
        await turns()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(example())
    assert not faults


async def turns() -> None:
    """As many turns of the loop as anything needs that waits for nobody."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces of `data` between some places, which may be anything."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    starts = [0, *ends[:-1]]
    return [data[start:end] for start, end in zip(starts, ends, strict=True) if end > start]


places = st.lists(st.integers(0, 1 << 16), max_size=8)
"""Where to cut."""


@st.composite
def spoiled(draw: st.DrawFn, whole: st.SearchStrategy[bytes], words: list[bytes]) -> bytes:
    """Bytes with a few pieces overwritten, inserted, left out, doubled."""
    data = draw(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        piece = draw(st.one_of(st.sampled_from(words), st.binary(max_size=3), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[draw(st.sampled_from((start, end))) :]
    return data
