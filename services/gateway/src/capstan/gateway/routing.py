"""Models, the pools that serve them, and what keeps the pools' members known: probes, metrics, DNS."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import Any

from capstan.gateway.adapters import Adapters
from capstan.gateway.config import ConfigError, Model, ModelsFile, Pool
from capstan.gateway.discovery import Resolve, discover, look_up
from capstan.gateway.member import Member
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.pool import Connect, PoolState
from capstan.gateway.probe import look

log = logging.getLogger("capstan.gateway.routing")

__all__ = ["Member", "PoolState", "Router"]

_DNS_INTERVAL_S = 5.0
_MOST_NAMES = 20


class Router:
    """All pools, and the models they serve."""

    def __init__(
        self,
        config: ModelsFile,
        *,
        connect: Connect,
        probe_interval_s: float = 2.0,
        now: Callable[[], float] = time.monotonic,
        resolve: Resolve = look_up,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`now` must be the clock of the gates' tickets. Raises `ConfigError`."""
        self.models: Mapping[str, Model] = {}
        self.pools: dict[str, PoolState] = {}
        self.adapters = Adapters()
        self.probe_interval_s = probe_interval_s
        self._connect = connect
        self._now = now
        self._resolve = resolve
        self._environ = environ
        self.apply(config)

    # the request path

    def find(self, name: str) -> Model:
        """The model of that name. Raises `Refusal`."""
        model = self.models.get(name)
        if model is None:
            known = list(self.models)
            more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
            names = ", ".join(known[:_MOST_NAMES])
            message = f"the model {name[:100]!r} does not exist; the models are {names}{more}"
            raise Refusal(Outcome.MODEL_NOT_FOUND, message, param="model")
        return model

    def resolve(self, name: str, key: str) -> tuple[str, Model]:
        """The model that serves a request for `name`: itself or, for a split, the arm that `key` always gets.

        Arms are drawn by weight from a hash, the same in all replicas. Raises `Refusal`.
        """
        model = self.find(name)
        if not model.split:
            return name, model
        digest = blake2b(f"{name}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
        arm = _arm(model.split, int.from_bytes(digest) * sum(model.split.values()) >> 64)
        return arm, self.models[arm]

    # from outside the request path

    def check(self, config: ModelsFile) -> None:
        """Raise `ConfigError` if `apply` would."""
        for name, pool in config.pools.items():
            _api_key(name, pool, self._environ)

    def apply(self, config: ModelsFile) -> None:
        """Take on a new `models.yaml`: pools and members that stay keep connections, queue and health; those that go
        finish what they have. Raises `ConfigError`, and then nothing has changed.
        """
        api_keys = {name: _api_key(name, pool, self._environ) for name, pool in config.pools.items()}
        for name in self.pools.keys() - config.pools.keys():
            self.pools.pop(name).retire()
        for name, pool in config.pools.items():
            if name in self.pools:
                self.pools[name].configure(pool, api_keys[name])
            else:
                self.pools[name] = PoolState(name, pool, api_keys[name], now=self._now, connect=self._connect)
            models = config.models.items()
            self.pools[name].adapters = {n: m.adapter for n, m in models if m.pool == name and m.adapter}
        self.models = config.models

    async def run(self) -> None:
        """Keep members and their health current until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_every(_DNS_INTERVAL_S, self.discover))
            tasks.create_task(_every(self.probe_interval_s, self.probe))

    async def probe(self) -> None:
        """Look at all members once."""
        pools = list(self.pools.values())
        await asyncio.gather(*(look(pool, self._now, self.probe_interval_s) for pool in pools))

    async def discover(self) -> None:
        """Look up all pools' host names once; before the first time a pool with `dns` has no members."""
        await asyncio.gather(*(discover(pool, self._resolve) for pool in list(self.pools.values())))

    def status(self) -> dict[str, Any]:
        """What an operator wants to know of the pools, as JSON."""
        return {name: pool.status() for name, pool in self.pools.items()}

    def close(self) -> None:
        """Close all idle connections."""
        for pool in self.pools.values():
            pool.close()


def _arm(split: Mapping[str, int], point: int) -> str:
    """The arm at `point`, which is below the sum of the weights."""
    for arm, weight in split.items():
        if point < weight:
            return arm
        point -= weight
    raise AssertionError("point lies past the weights")


def _api_key(name: str, pool: Pool, environ: Mapping[str, str]) -> str:
    if pool.api_key_env is None:
        return ""
    key = environ.get(pool.api_key_env, "")
    if not key:
        raise ConfigError(f"pool {name!r} takes its API key from {pool.api_key_env}, which is not set")
    return key


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await work()
        except Exception:
            log.exception("a look at the upstreams failed; the next one follows")
        await asyncio.sleep(max(0.0, started + seconds - loop.time()))
