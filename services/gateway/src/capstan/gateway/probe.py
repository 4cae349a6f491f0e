"""One look at each member of a pool: is it well, how loaded is it, which adapters has it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import orjson

from capstan.gateway import engine
from capstan.gateway.member import Member
from capstan.gateway.pool import PoolState
from capstan.gateway.upstream_connection import UpstreamError

log = logging.getLogger("capstan.gateway.probe")

_TIMEOUT_S = 2.0
_STALE_INTERVALS = 3
_PATHS = {"vllm": b"/health", "capstan": b"/readyz"}


async def look(pool: PoolState, now: Callable[[], float], interval_s: float) -> None:
    """Look at all members at the same time, then tell the gate."""
    if path := _PATHS.get(pool.config.kind):
        await asyncio.gather(*(_look_at(pool, member, path, now) for member in pool.members))
    pool.capacity_changed()
    if pool.config.kind == "vllm":
        _tell_gate(pool, now() - _STALE_INTERVALS * interval_s)


async def _look_at(pool: PoolState, member: Member, path: bytes, now: Callable[[], float]) -> None:
    status, _ = await _get(member, path)
    if member.health.probed(status == 200):
        pool.health_changed(member)
    if not member.health.up:
        member.adapters.clear()  # a restarted worker has none
    elif pool.config.kind == "vllm":
        with suppress(TimeoutError):
            async with asyncio.timeout(_TIMEOUT_S):
                await _read_load(member, now)
                if pool.adapters:
                    await _read_adapters(member)
    if member.leaving:
        member.upstream.close()


async def _read_load(member: Member, now: Callable[[], float]) -> None:
    status, body = await _get(member, b"/metrics")
    load = engine.read(body) if status == 200 else None
    if load is not None:
        member.waiting, member.kv_usage = load
        member.scraped = now()


async def _read_adapters(member: Member) -> None:
    status, body = await _get(member, b"/v1/models")
    if status != 200:
        return
    try:
        cards = orjson.loads(body)["data"]
        member.adapters = {card["id"] for card in cards if card.get("parent")}
    except (ValueError, KeyError, TypeError, AttributeError):
        log.debug("%s lists its models in a way that is not understood", member.name)


async def _get(member: Member, path: bytes) -> tuple[int, bytes]:
    """Status and body; status 0 when there was no answer."""
    try:
        return await member.upstream.fetch(b"GET", path, b"", b"", _TIMEOUT_S)
    except UpstreamError:
        return 0, b""


def _tell_gate(pool: PoolState, oldest: float) -> None:
    """Only fresh readings: an old one would hold requests back for a load that is long gone."""
    fresh = [m for m in pool.members if m.health.up and m.scraped is not None and m.scraped >= oldest]
    if fresh:
        pool.gate.engine(sum(m.waiting for m in fresh), max(m.kv_usage for m in fresh), pool.able)
