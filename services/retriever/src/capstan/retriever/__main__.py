"""`python -m capstan.retriever` serves."""

import asyncio
import logging
from functools import partial

from capstan.common import telemetry
from capstan.common.logs import configure_logging
from capstan.common.models import ModelError, ModelRef
from capstan.common.server import serve
from capstan.common.settings import die, load
from capstan.retriever.app import create
from capstan.retriever.build import Successor
from capstan.retriever.embedder import Embedder, load_embedder
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import StoreError
from capstan.retriever.versions import Catalog, EdgeCatalog, Version, settle, switch

log = logging.getLogger(__name__)

_SERVER_TRIES = 12
_SERVER_PAUSE_S = 5.0


def main() -> None:
    """Serve until told to stop."""
    settings = load(RetrieverSettings)
    configure_logging("retriever", settings.log_level)
    telemetry.setup_tracing("retriever")
    try:
        wanted = Version.of(settings)
        embedder = _embedder(settings)
        serving = asyncio.run(_settled(settings, wanted, embedder.dimensions))
        catalog = _catalog(settings)
        successor = None
        if serving.name != wanted.name:
            store = catalog.open(wanted.name, embedder.dimensions)
            successor = Successor(settings, store, embedder, partial(switch, catalog, wanted))
            settings = serving.applied(settings)
            embedder = _embedder(settings)
        app = create(settings, catalog.open(serving.name, embedder.dimensions), embedder, successor)
    except (ModelError, StoreError) as error:
        die(str(error))
    serve(
        app,
        host=settings.host,
        port=settings.port,
        port_setting="CAPSTAN_RETRIEVER_PORT",
        lifecycle=app.state.lifecycle,
        drain_s=settings.drain_s,
    )


def _embedder(settings: RetrieverSettings) -> Embedder:
    model_dir = ModelRef.parse(settings.model).resolve(settings.cache_dir)
    return load_embedder(model_dir, settings.cache_dir, settings.view_tokens)


async def _settled(settings: RetrieverSettings, wanted: Version, dimensions: int) -> Version:
    """The version to serve from. A Qdrant server may be starting at the same time: it is waited for."""
    catalog = _catalog(settings)  # its own: connections belong to an event loop
    try:
        for _ in range(_SERVER_TRIES if settings.qdrant_url else 0):
            try:
                return await settle(catalog, wanted, dimensions)
            except StoreError as error:
                log.warning("waiting for the Qdrant server", extra={"reason": str(error)})
                await asyncio.sleep(_SERVER_PAUSE_S)
        return await settle(catalog, wanted, dimensions)
    finally:
        await catalog.close()


def _catalog(settings: RetrieverSettings) -> Catalog:
    if settings.qdrant_url is None:
        return EdgeCatalog(settings.data_dir)
    from capstan.retriever.server_catalog import ServerCatalog  # its client is slow to import

    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return ServerCatalog.connect(settings.qdrant_url, key)


if __name__ == "__main__":
    main()
