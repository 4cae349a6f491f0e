"""The KV cache as vLLM keeps it: fixed blocks, shared by equal prefixes, least recently used ones reused first."""

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 16
"""Tokens in a block."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The blocks that one request holds."""

    shared: tuple[int, ...]
    """Hashes of its full prompt blocks."""
    private: int
    """Blocks that no other request can use: the prompt's rest and the answer."""
    cached_tokens: int
    """Prompt tokens that need no computing."""


class PrefixCache:
    """Block accounting for at most `capacity` blocks."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._held: dict[int, int] = {}  # block hash -> requests that hold it
        self._idle: OrderedDict[int, None] = OrderedDict()  # computed, held by nobody, oldest first
        self._private = 0

    @property
    def usage(self) -> float:
        """Part of the blocks that requests hold, 0 to 1."""
        return (len(self._held) + self._private) / self.capacity

    def acquire(self, tokens: Sequence[int], answer_tokens: int, adapter: str = "") -> Lease | None:
        """Blocks for a prompt and its longest answer, or None while there is no room.

        Adapters share no blocks, since each computes other values for the same tokens.

        vLLM takes answer blocks one by one and preempts when they run out; taking them at once never preempts.
        """
        hashes = _block_hashes(tokens, adapter)
        cached = self._cached_blocks(hashes, len(tokens))
        private = -(-(len(tokens) + answer_tokens) // BLOCK) - len(hashes)
        new = sum(1 for block in hashes if block not in self._held)
        if len(self._held) + self._private + new + private > self.capacity:
            return None
        for block in hashes:
            self._held[block] = self._held.get(block, 0) + 1
            self._idle.pop(block, None)
        self._private += private
        while len(self._held) + self._private + len(self._idle) > self.capacity:
            self._idle.popitem(last=False)
        return Lease(tuple(hashes), private, cached * BLOCK)

    def release(self, lease: Lease) -> None:
        """Give the blocks back. The shared ones stay readable until their room is needed."""
        self._private -= lease.private
        # The prefix's end goes first, so that it is also the first to be dropped.
        for block in reversed(lease.shared):
            self._held[block] -= 1
            if not self._held[block]:
                del self._held[block]
                self._idle[block] = None

    def _cached_blocks(self, hashes: list[int], prompt_tokens: int) -> int:
        # At least the prompt's last token is computed, since its output is what gets sampled.
        most = (prompt_tokens - 1) // BLOCK
        for index, block in enumerate(hashes[:most]):
            if block not in self._held and block not in self._idle:
                return index
        return min(most, len(hashes))


def _block_hashes(tokens: Sequence[int], adapter: str) -> list[int]:
    """Hashes of the full blocks; each covers all tokens before it."""
    hashes: list[int] = []
    previous = zlib.crc32(adapter.encode())
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        previous = hash((previous, *tokens[start : start + BLOCK]))
        hashes.append(previous)
    return hashes
