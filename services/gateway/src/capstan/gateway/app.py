"""Puts the gateway together: the model routes on the fast lane, the control plane on FastAPI behind it."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Gauge

from capstan.common.errors import ApiError
from capstan.common.health import Lifecycle
from capstan.common.identity import Signer
from capstan.gateway.accesslog import AccessLog
from capstan.gateway.auth import Authenticator
from capstan.gateway.budget_metrics import BudgetMetrics
from capstan.gateway.config import ConfigError, KeysFile, ModelsFile, Tenant, read_keys, read_models
from capstan.gateway.connection import Edge
from capstan.gateway.control import create_control
from capstan.gateway.dispatch import Dispatcher
from capstan.gateway.endpoint import ModelEndpoint
from capstan.gateway.ledger import FileLedger, Ledger
from capstan.gateway.metering import Metering
from capstan.gateway.mounts import Mounts
from capstan.gateway.quota import MemoryQuota, Quota
from capstan.gateway.routing import Router
from capstan.gateway.routing_metrics import RoutingMetrics
from capstan.gateway.settings import GatewaySettings
from capstan.gateway.tenants import FileTenants, TenantStore
from capstan.gateway.tracing import Tracing
from capstan.gateway.upstream import Upstream
from capstan.gateway.upstream_connection import Watchdog

log = logging.getLogger("capstan.gateway")


class Gateway:
    """A gateway: `control` is its ASGI application, `edge.protocol` the HTTP protocol with a lane for model routes."""

    def __init__(
        self,
        settings: GatewaySettings,
        models: ModelsFile,
        keys: KeysFile | None = None,
        log: Callable[[bytes], object] | None = None,
    ) -> None:
        """Nothing is connected before the application's start-up. Raises `ConfigError`.

        `keys` are kept in memory in place of those in the settings' file; `log` takes the access log (default: stdout).
        """
        self._settings = settings
        self._prepared = False
        self._tasks: set[asyncio.Task[None]] = set()
        registry = CollectorRegistry()
        signer = Signer(settings.identity_secret.get_secret_value())
        self._watchdog = Watchdog()
        self.router = Router(
            models,
            connect=partial(Upstream, watchdog=self._watchdog),
            probe_interval_s=settings.probe_interval_s,
            now=time.monotonic,
        )
        registry.register(RoutingMetrics(self.router, time.monotonic))
        self.tenants, self._ledger, self._quota = _stores(settings, keys, registry)
        self._budgets = BudgetMetrics(registry, self.tenants, self._quota)
        self._log = AccessLog(log or partial(os.write, sys.stdout.fileno()))
        authenticator = Authenticator(signer, self.tenants)
        tracing = Tracing()
        self.control = create_control(
            settings,
            registry=registry,
            authenticator=authenticator,
            router=self.router,
            tenants=self.tenants,
            ledger=self._ledger,
            lifespan=self._lifespan,
            busy=lambda: self._endpoint.active + self._mounts.active > 0,
            reload=self.reload,
            drain=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
        self._mounts = Mounts(self.control, authenticator, self._quota)
        self._mounts.check(models.mounts)
        self._mounts.apply(models.mounts)
        self._endpoint = ModelEndpoint(
            authenticator=authenticator,
            quota=self._quota,
            router=self.router,
            dispatcher=Dispatcher(self.router, signer, tracing),
            metering=Metering(registry, self._ledger, self._log, time.time),
            tracing=tracing,
            lifecycle=self.lifecycle,
        )
        self.edge = Edge(self._endpoint, settings.max_body_bytes, settings.receive_timeout_s, settings.keep_alive_s)
        connections = Gauge("capstan_gateway_connections", "Open client connections.", registry=registry)
        connections.set_function(lambda: len(self.edge.connections))

    @property
    def lifecycle(self) -> Lifecycle:
        """Readiness and drain."""
        lifecycle = self.control.state.lifecycle
        assert isinstance(lifecycle, Lifecycle)
        return lifecycle

    async def reload(self) -> None:
        """Read `models.yaml` and the tenants again. Raises `ConfigError`, and then what was in force stays."""
        models = read_models(self._settings.models_file, self._settings.extra_models_file)
        self.router.check(models)
        self._mounts.check(models.mounts)
        await self.tenants.reload()
        self.router.apply(models)
        self._mounts.apply(models.mounts)
        await self.router.discover()

    async def prepare(self) -> None:
        """Connect the stores, once. Raises `ConfigError`."""
        if self._prepared:
            return
        await self.tenants.start()
        await self._ledger.start()
        await self._quota.start()
        self._restore_spending()
        self._prepared = True

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        await self.prepare()
        await self.router.discover()
        with suppress(ValueError, RuntimeError):  # not the main thread: a test
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        works = [asyncio.create_task(work.run()) for work in (self.router, self._watchdog, self.edge, self._budgets)]
        yield
        for work in works:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
        self.router.close()
        await self._mounts.close()
        await self._quota.close()
        await self._ledger.close()
        await self.tenants.close()
        self._log.flush()

    def _hang_up(self) -> None:
        task = asyncio.create_task(self._reload_on_hangup())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_on_hangup(self) -> None:
        """SIGHUP: reload; a mistake is logged, and what was in force stays."""
        try:
            await self.reload()
        except (ConfigError, ApiError) as error:
            log.warning("reload refused, what was in force stays: %s", error)
        else:
            log.info("reloaded")

    def _restore_spending(self) -> None:
        """Without Redis the month's spending comes back from the ledger."""
        if isinstance(self._quota, MemoryQuota) and isinstance(self._ledger, FileLedger):
            for tenant, cost in self._ledger.month_costs(datetime.now(UTC).date()).items():
                self._quota.set_spent(tenant, cost)


def _stores(
    settings: GatewaySettings, keys: KeysFile | None, registry: CollectorRegistry
) -> tuple[TenantStore, Ledger, Quota]:
    """Where tenants, usage and quotas live: files and memory, or the Redis that all replicas share."""
    path = settings.keys_file
    if settings.redis_url is None:
        ledger, quota = FileLedger(settings.usage_file), MemoryQuota(share=settings.replicas)
        if keys is not None:
            return FileTenants(None, keys.tenants), ledger, quota
        if path is None:
            raise ConfigError(
                "set CAPSTAN_GATEWAY_KEYS_FILE, or CAPSTAN_GATEWAY_REDIS_URL where the tenants are in Redis"
            )
        return FileTenants(path), ledger, quota
    from capstan.gateway.ledger_redis import RedisLedger
    from capstan.gateway.quota_redis import RedisQuota
    from capstan.gateway.tenants_redis import RedisTenants

    def seed() -> Mapping[str, Tenant]:
        return (keys or (read_keys(path) if path is not None else KeysFile())).tenants

    url, timeout_s = settings.redis_url.get_secret_value(), settings.redis_timeout_s
    shared = RedisTenants(url, seed, timeout_s=timeout_s, registry=registry)
    quotas = RedisQuota(url, timeout_s=timeout_s, replicas=settings.replicas, registry=registry)
    return shared, RedisLedger(url, timeout_s=timeout_s), quotas
