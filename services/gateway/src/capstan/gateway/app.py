"""Puts the gateway together: the hot path in front, the control plane behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from capstan.common.health import Lifecycle
from capstan.common.identity import Signer
from capstan.gateway.auth import Authenticator
from capstan.gateway.config import KeysFile, ModelsFile
from capstan.gateway.control import create_control
from capstan.gateway.endpoint import PATHS, ModelEndpoint
from capstan.gateway.metering import Metering
from capstan.gateway.quota import MemoryQuota
from capstan.gateway.routing import Router
from capstan.gateway.settings import GatewaySettings


class Gateway:
    """The ASGI application."""

    def __init__(self, settings: GatewaySettings, models: ModelsFile, keys: KeysFile) -> None:
        registry = CollectorRegistry()
        signer = Signer(settings.identity_secret.get_secret_value())
        router = Router(models)
        authenticator = Authenticator(keys, signer)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            probing = asyncio.create_task(router.probe_forever(settings.probe_interval_s))
            yield
            probing.cancel()
            with suppress(asyncio.CancelledError):
                await probing
            router.close()

        self.control = create_control(settings, registry, authenticator, router, lifespan)
        self._endpoint = ModelEndpoint(
            authenticator=authenticator,
            quota=MemoryQuota(),
            router=router,
            metering=Metering(registry, router),
            signer=signer,
            max_body_bytes=settings.max_body_bytes,
        )

    @property
    def lifecycle(self) -> Lifecycle:
        """Readiness and drain."""
        lifecycle = self.control.state.lifecycle
        assert isinstance(lifecycle, Lifecycle)
        return lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and scope["path"] in PATHS and scope["method"] == "POST":
            await self._endpoint(scope, receive, send)
        else:
            await self.control(scope, receive, send)
