"""Which members have probably cached a prompt's beginning: a chain of block hashes, as vLLM keys its prefix cache."""

from collections.abc import Sequence

BLOCK = 256
"""Bytes of request body in a block, roughly 64 tokens."""
MOST_BLOCKS = 64
_STARTS = (b'"messages"', b'"prompt"', b'"input"')
_GENERATION = 32_768
"""Blocks in one generation: 2 MiB x 4 of prompts; about 3 MB of memory each, two at most."""


def blocks(body: bytes, model: str = "") -> list[int]:
    """Hashes of the prompt's whole blocks in a raw JSON body; equal up to the block in which two prompts part.

    `model` keeps models apart: their caches share nothing. Hashes differ between processes, so that nobody can
    prepare collisions.
    """
    start = -1
    for name in _STARTS:
        start = body.find(name)
        if start >= 0:
            break
    if start < 0:
        return []
    chain = hash(model)
    hashes = []
    last = min(len(body) - BLOCK, start + (MOST_BLOCKS - 1) * BLOCK)
    for position in range(start, last + 1, BLOCK):
        chain = hash((chain, body[position : position + BLOCK]))
        hashes.append(chain)
    return hashes


class PrefixIndex:
    """Block to the set of members (as a bit mask) that were sent it lately.

    Memory is bounded by two generations of a dict: when the young one is full it becomes the old one, and what was
    not used since is forgotten with the one before: an LRU in steps, without its bookkeeping. Moving to the young
    generation a block takes along only the member that used it, so copies that are no longer used go out of mind too.
    """

    __slots__ = ("_generation", "_old", "_young")

    def __init__(self, generation: int = _GENERATION) -> None:
        self._generation = generation
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def longest(self, blocks: Sequence[int], candidates: int) -> tuple[int, int]:
        """The candidates (a mask) with the longest known beginning, and its length in blocks."""
        young, old = self._young, self._old
        length = 0
        for block in blocks:
            having = candidates & (young.get(block) or old.get(block, 0))
            if not having:
                break
            candidates = having
            length += 1
        return candidates, length

    def add(self, blocks: Sequence[int], member: int) -> None:
        """The member (one bit) was sent these blocks."""
        young = self._young
        if len(young) + len(blocks) > self._generation:
            self._old = young
            self._young = young = {}
        for block in blocks:
            young[block] = young.get(block, 0) | member

    def forget(self, member: int) -> None:
        """The member is gone, its bit will be another's."""
        self._young = {block: rest for block, having in self._young.items() if (rest := having & ~member)}
        self._old = {block: rest for block, having in self._old.items() if (rest := having & ~member)}
