"""`python -m capstan.retriever` serves."""

import hashlib
import json

from capstan.common import telemetry
from capstan.common.logs import configure_logging
from capstan.common.models import ModelError, ModelRef
from capstan.common.server import serve
from capstan.common.settings import die, load
from capstan.retriever.app import create
from capstan.retriever.edge_store import EdgeStore
from capstan.retriever.embedder import Embedder, load_embedder
from capstan.retriever.lexical import AVERAGE_LENGTH
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import SCHEMA_VERSION, StoreError, VectorStore


def main() -> None:
    """Serve until told to stop."""
    settings = load(RetrieverSettings)
    configure_logging("retriever", settings.log_level)
    telemetry.setup_tracing("retriever")
    try:
        model_dir = ModelRef.parse(settings.model).resolve(settings.cache_dir)
        embedder = load_embedder(model_dir, settings.cache_dir, settings.view_tokens)
        store = open_store(settings, embedder)
    except (ModelError, StoreError) as error:
        die(str(error))
    app = create(settings, store, embedder)
    serve(
        app,
        host=settings.host,
        port=settings.port,
        port_setting="CAPSTAN_RETRIEVER_PORT",
        lifecycle=app.state.lifecycle,
        drain_s=settings.drain_s,
    )


def open_store(settings: RetrieverSettings, embedder: Embedder) -> VectorStore:
    """The store that the settings name, under a name that changes with everything a vector depends on."""
    name = index_name(settings)
    if settings.qdrant_url is None:
        return EdgeStore(settings.data_dir / name, embedder.dimensions)
    from capstan.retriever.server_store import ServerStore  # its client is slow to import

    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return ServerStore.connect(settings.qdrant_url, key, f"capstan-{name}", embedder.dimensions)


def index_name(settings: RetrieverSettings) -> str:
    """Another model, chunk size or BM25 scale starts another index, so that no two kinds of vector mix."""
    parts = [SCHEMA_VERSION, settings.model, settings.chunk_tokens, settings.small_tokens]
    parts += [settings.view_tokens, AVERAGE_LENGTH]
    return "chunks-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


if __name__ == "__main__":
    main()
