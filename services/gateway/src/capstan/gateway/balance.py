"""Which of several members serves a request: the policies that `routing` of a model names."""

from collections.abc import Callable, Sequence
from typing import Final

from capstan.gateway.member import Member
from capstan.gateway.prefix import PrefixIndex

LOAD_CAP = 1.25
SLACK = 2
"""A member keeps its prompts up to `LOAD_CAP` times the mean load plus so many mean requests: enough for a burst on one
prompt, and in a busy pool the imbalance is bounded by the factor alone."""


Policy = Callable[[Sequence[Member], Sequence[int], PrefixIndex, float, str | None], tuple[Member, int]]
"""From the members (one at least), the hashes of the prompt's blocks (none but for `prefix`), who has seen which, the
mean request in tokens, and the LoRA adapter, if any, to the member for a request and how many of those blocks it has
seen."""


def prefix(
    members: Sequence[Member], blocks: Sequence[int], index: PrefixIndex, request: float, adapter: str | None
) -> tuple[Member, int]:
    """The member that has the prompt cached, and least outstanding tokens among equals.

    Members below the load cap come first; of them those that have the adapter; of them those with the longest known
    beginning of the prompt; of them the least loaded, the first one of equals. Load is the outstanding tokens with
    this request (its size taken as the mean one, `request` tokens), divided by the member's share in a slow start.
    """
    shares = [1.0 if m.health.ok else m.health.share() for m in members]
    loads = [(m.outstanding + request) / share for m, share in zip(members, shares, strict=True)]
    cap = (LOAD_CAP * sum([m.outstanding for m in members]) + (1 + SLACK) * request * len(members)) / sum(shares)
    mask = having = 0
    for member, load in zip(members, loads, strict=True):
        if load <= cap:
            mask |= member.bit
            if adapter is not None and adapter in member.adapters:
                having |= member.bit
    mask, matched = index.longest(blocks, having or mask) if blocks else (having or mask, 0)
    best = None
    least = 0.0
    for member, load in zip(members, loads, strict=True):
        if (member.bit & mask or not mask) and (best is None or load < least):
            best, least = member, load
    assert best is not None
    return best, matched


def least_tokens(
    members: Sequence[Member], blocks: Sequence[int], index: PrefixIndex, request: float, adapter: str | None
) -> tuple[Member, int]:
    """The same without looking at prompts."""
    return prefix(members, (), index, request, adapter)


POLICIES: Final[dict[str, Policy]] = {"least_tokens": least_tokens, "prefix": prefix}
