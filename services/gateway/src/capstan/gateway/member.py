"""An upstream in a pool, with all that routing knows of it."""

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from capstan.gateway.config import Pool
from capstan.gateway.health import Health
from capstan.gateway.upstream import Upstream


class Place(NamedTuple):
    """Where an upstream is."""

    url: str
    address: str = ""
    """The address to connect to, if it is one of several that the URL's host name stands for."""

    @property
    def name(self) -> str:
        """What logs and metrics call it."""
        if not self.address:
            return self.url.rstrip("/")
        parts = urlsplit(self.url)
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


class Member:
    """An upstream in a pool."""

    __slots__ = (
        "adapters", "bit", "health", "kv_usage", "leaving", "name", "outstanding", "place", "running", "scraped",
        "upstream", "waiting",
    )  # fmt: skip

    def __init__(
        self, place: Place, upstream: Upstream, pool: Pool, bit: int, now: Callable[[], float], *, new: bool = False
    ) -> None:
        """`new`: it has joined a running pool, so it starts slowly."""
        self.place = place
        self.name = place.name
        self.upstream = upstream
        self.bit = bit
        """Its place in the prefix index's masks."""
        self.health = Health(pool, now, new=new)
        self.outstanding = 0
        """Tokens of the requests that run there, as estimated when they began."""
        self.running = 0
        self.leaving = False
        """Gone from the configuration or the DNS; what runs there ends."""
        self.adapters: set[str] = set()
        """LoRA adapters that it has loaded."""
        self.waiting = 0.0
        self.kv_usage = 0.0
        self.scraped: float | None = None
        """When `waiting` and `kv_usage` were read."""

    def status(self) -> dict[str, Any]:
        """What an operator wants to know, as JSON."""
        return {
            "url": self.name,
            "health": self.health.word,
            "running": self.running,
            "outstanding_tokens": self.outstanding,
            "adapters": sorted(self.adapters),
        }
