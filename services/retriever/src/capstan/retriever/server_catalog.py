"""The collections of one retriever on a Qdrant server: an alias, and metadata on the collection it names."""

from qdrant_client import AsyncQdrantClient
from qdrant_client import models as q

from capstan.retriever.server_store import ServerStore, called
from capstan.retriever.store import StoreError, VectorStore
from capstan.retriever.versions import Alias, Version

PREFIX = "capstan-"
ALIAS = f"{PREFIX}chunks"


class ServerCatalog:
    """`Catalog` on a server. Collections are named `capstan-<version>`."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    @classmethod
    def connect(cls, url: str, api_key: str | None) -> "ServerCatalog":
        """A catalog at `url`; nothing is sent yet."""
        return cls(AsyncQdrantClient(url=url, api_key=api_key, check_compatibility=False, timeout=30))

    async def read(self) -> Alias | None:
        """Look the alias up, then its collection's metadata."""
        name = await self._target()
        if name is None:
            return None
        metadata = (await called(self._client.get_collection(name))).config.metadata or {}
        try:
            version = Version(name.removeprefix(PREFIX), metadata["settings"])
            return Alias(version, metadata.get("previous") or None, metadata.get("building") or None)
        except KeyError:
            hint = f"delete the alias {ALIAS} to index anew what the settings ask for"
            raise StoreError(f"the collection {name} does not say with which settings it was made: {hint}") from None

    async def write(self, alias: Alias) -> None:
        """Metadata first, then the alias: it never names a collection whose settings are not known."""
        name = PREFIX + alias.version.name
        metadata = {
            "settings": dict(alias.version.settings),
            "previous": alias.previous or "",  # a server keeps a field that is set to null as it was
            "building": alias.building or "",
        }
        await called(self._client.update_collection(name, metadata=metadata))
        if (target := await self._target()) == name:
            return
        operations: list[q.AliasOperations] = [
            q.CreateAliasOperation(create_alias=q.CreateAlias(collection_name=name, alias_name=ALIAS))
        ]
        if target is not None:
            operations.insert(0, q.DeleteAliasOperation(delete_alias=q.DeleteAlias(alias_name=ALIAS)))
        await called(self._client.update_collection_aliases(operations))

    async def _target(self) -> str | None:
        aliases = (await called(self._client.get_aliases())).aliases
        return next((a.collection_name for a in aliases if a.alias_name == ALIAS), None)

    async def create(self, name: str, dimensions: int) -> None:
        """Make the collection and its indexes."""
        await ServerStore(self._client, PREFIX + name, dimensions).ready()

    def open(self, name: str, dimensions: int) -> VectorStore:
        """A store that shares this client and closes it."""
        return ServerStore(self._client, PREFIX + name, dimensions)

    async def drop(self, name: str) -> None:
        """Delete the collection."""
        await called(self._client.delete_collection(PREFIX + name))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
