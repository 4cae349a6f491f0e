"""Which upstream serves a request: healthy ones only, the least loaded first."""

import asyncio
import logging

from capstan.gateway.admission import Admission
from capstan.gateway.config import Model, ModelsFile, Pool
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.upstream import Upstream, UpstreamError

log = logging.getLogger("capstan.gateway.routing")

_PROBE_TIMEOUT_S = 2.0


class PoolState:
    """A pool at run time: its upstreams and its gate."""

    def __init__(self, name: str, config: Pool) -> None:
        self.name = name
        self.config = config
        self.admission = Admission(name, config)
        self.upstreams = [Upstream(str(url)) for url in config.urls]

    def choose(self, *, excluding: Upstream | None = None) -> Upstream:
        """The healthy upstream with the fewest requests in flight. Raises `Refusal`."""
        healthy = [u for u in self.upstreams if u.healthy and u is not excluding]
        if not healthy:
            urls = ", ".join(u.url for u in self.upstreams)
            message = f"no upstream of pool {self.name!r} is up ({urls}); it may still be starting"
            raise Refusal(Outcome.NO_UPSTREAM, message, retry_after=5)
        return min(healthy, key=lambda u: u.in_flight)


class Router:
    """All pools, and the models they serve."""

    def __init__(self, config: ModelsFile) -> None:
        self.models = config.models
        self.pools = {name: PoolState(name, pool) for name, pool in config.pools.items()}

    def find(self, name: str) -> tuple[Model, PoolState]:
        """The model and its pool. Raises `Refusal`."""
        model = self.models.get(name)
        if model is None:
            known = ", ".join(self.models)
            message = f"the model {name[:100]!r} does not exist; the models are {known}"
            raise Refusal(Outcome.MODEL_NOT_FOUND, message, param="model")
        return model, self.pools[model.pool]

    async def probe_forever(self, interval_s: float) -> None:
        """Keep every upstream's health current."""
        while True:
            await asyncio.gather(*(self._probe(pool, u) for pool in self.pools.values() for u in pool.upstreams))
            await asyncio.sleep(interval_s)

    async def _probe(self, pool: PoolState, upstream: Upstream) -> None:
        try:
            connection = await upstream.send("GET", pool.config.health_path, [], b"", _PROBE_TIMEOUT_S)
        except (UpstreamError, TimeoutError):
            healthy = False
        else:
            healthy = connection.status == 200
            connection.abort()
        if healthy != upstream.healthy:
            log.warning("upstream %s", "up" if healthy else "down", extra={"pool": pool.name, "upstream": upstream.url})
        upstream.healthy = healthy

    def close(self) -> None:
        """Close all idle connections."""
        for pool in self.pools.values():
            for upstream in pool.upstreams:
                upstream.close()
