"""Which upstream serves a request: healthy ones only, the least loaded first."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from capstan.gateway.admission import Admission
from capstan.gateway.config import Model, ModelsFile, Pool
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.upstream import Connection, Unreachable, Upstream, UpstreamError

log = logging.getLogger("capstan.gateway.routing")

_PROBE_TIMEOUT_S = 2.0


class PoolState:
    """A pool at run time: its upstreams and its gate."""

    def __init__(self, name: str, config: Pool) -> None:
        self.name = name
        self.config = config
        self.admission = Admission(name, config)
        self.upstreams = [Upstream(str(url)) for url in config.urls]

    @asynccontextmanager
    async def dispatch(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> AsyncIterator[Connection]:
        """Send a request to the best upstream and yield its connection once the answer has begun.

        A request that fails before the first byte of an answer goes once more, to another upstream.
        Raises `Refusal`.
        """
        upstream = self._least_loaded(None)
        try:
            connection = await self._send(upstream, path, headers, body)
        except UpstreamError as error:
            if isinstance(error, Unreachable):
                upstream.healthy = False
            if not any(u.healthy for u in self.upstreams if u is not upstream):
                raise _failed(error, upstream) from None
            upstream = self._least_loaded(upstream)
            try:
                connection = await self._send(upstream, path, headers, body)
            except UpstreamError as second:
                raise _failed(second, upstream) from None
        try:
            yield connection
        finally:
            upstream.in_flight -= 1
            upstream.release(connection)

    def _least_loaded(self, excluded: Upstream | None) -> Upstream:
        """With none healthy all are tried: the probe may be late, and a refusal costs nothing more."""
        healthy = [u for u in self.upstreams if u.healthy and u is not excluded]
        return min(healthy or self.upstreams, key=lambda u: u.in_flight)

    async def _send(self, upstream: Upstream, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Connection:
        timeout_s = self.config.first_byte_timeout_s
        upstream.in_flight += 1
        try:
            connection = await upstream.send("POST", path, headers, body, timeout_s)
        except BaseException as error:
            upstream.in_flight -= 1
            if isinstance(error, TimeoutError):
                message = f"{upstream.url} did not begin its answer within {timeout_s:g} s"
                raise Refusal(Outcome.UPSTREAM_TIMEOUT, message) from None
            raise
        upstream.healthy = True
        return connection


def _failed(error: UpstreamError, upstream: Upstream) -> Refusal:
    if isinstance(error, Unreachable):
        message = f"{upstream.url} cannot be reached ({error}); it may still be starting"
        return Refusal(Outcome.NO_UPSTREAM, message, retry_after=5)
    return Refusal(Outcome.UPSTREAM_DIED, f"{upstream.url} failed before its answer began: {error}")


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
            connection.abort()  # its body is of no interest
        if healthy != upstream.healthy:
            log.warning("upstream %s", "up" if healthy else "down", extra={"pool": pool.name, "upstream": upstream.url})
        upstream.healthy = healthy

    def close(self) -> None:
        """Close all idle connections."""
        for pool in self.pools.values():
            for upstream in pool.upstreams:
                upstream.close()
