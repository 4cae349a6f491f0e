"""Members by DNS: a host name that stands for all addresses it resolves to, such as a headless service's."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from capstan.gateway.member import Place
from capstan.gateway.pool import PoolState

log = logging.getLogger("capstan.gateway.discovery")

Resolve = Callable[[str], Awaitable[list[str]]]
"""Host name to addresses. Raises `OSError`."""

_LOOK_UP_TIMEOUT_S = 5.0


async def look_up(host: str) -> list[str]:
    """All addresses of a host, by the system's resolver. Raises `OSError`, `TimeoutError` among them."""
    async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


async def discover(pool: PoolState, resolve: Resolve) -> None:
    """Make a pool's members those that its host name stands for now.

    A failed or empty look-up changes nothing: workers are rather asked in vain than forgotten for a DNS hiccup.
    """
    url = pool.config.dns
    if url is None or url.host is None:
        return
    try:
        addresses = await resolve(url.host)
    except (OSError, UnicodeError) as error:  # the latter: a label that no DNS can hold
        addresses, reason = [], str(error) or type(error).__name__
    else:
        reason = "it has no addresses"
    if pool.config.dns != url:
        return  # a reload came in between
    fields = {"pool": pool.name, "host": url.host}
    if not addresses:
        if not pool.unresolved:
            log.warning("look-up failed, the last members stay: %s", reason, extra=fields)
        pool.unresolved = True
        return
    pool.unresolved = False
    before = {m.place for m in pool.members}
    places = {Place(str(url), address) for address in addresses}
    if places != before:
        pool.set_members(sorted(places))
        log.info("members changed", extra={**fields, "members": [m.name for m in pool.members]})
