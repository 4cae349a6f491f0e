"""Versions of the index: which collection is in use, and which are its neighbours.

Everything in a collection depends on some of the settings. They give it its name, and a pointer, the
alias, says which collection is in use and with which settings it was made: for the embedded store a
file that is replaced as a whole, on a server an alias and the metadata of its collection.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from capstan.retriever.edge_store import EdgeStore
from capstan.retriever.lexical import AVERAGE_LENGTH
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import SCHEMA_VERSION, StoreError, VectorStore

_SETTINGS = (
    "model", "chunking", "chunk_tokens", "small_tokens", "window_overlap", "heading_path", "view_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Version:
    """A collection's name and the settings that everything in it depends on."""

    name: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, settings: RetrieverSettings) -> "Version":
        """What these settings ask for."""
        return cls(index_name(settings), settings.model_dump(include=set(_SETTINGS)))

    def applied(self, settings: RetrieverSettings) -> RetrieverSettings:
        """`settings` as this collection wants them; one that is newer than it has its default."""
        defaults = {name: RetrieverSettings.model_fields[name].default for name in _SETTINGS}
        return settings.model_copy(update={name: self.settings.get(name, defaults[name]) for name in _SETTINGS})


@dataclass(frozen=True, slots=True)
class Alias:
    """What the alias says: the version in use, the one before it, and the one that is being built."""

    version: Version
    previous: str | None = None
    building: str | None = None


def index_name(settings: RetrieverSettings) -> str:
    """Another model, chunking or BM25 scale is another index, so that no two kinds of vector mix."""
    parts: list[object] = [SCHEMA_VERSION, settings.model, settings.chunk_tokens, settings.small_tokens]
    parts += [settings.view_tokens, AVERAGE_LENGTH]
    if settings.chunking == "window":
        parts += ["window", settings.window_overlap]
    if not settings.heading_path:
        parts.append("text alone")
    return "chunks-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


class Catalog(Protocol):
    """The collections of one retriever. All methods raise `StoreError`."""

    async def read(self) -> Alias | None:
        """The alias; None if nothing was indexed here yet."""

    async def write(self, alias: Alias) -> None:
        """Replace the alias, all of it or nothing; it survives the end of the process."""

    async def create(self, name: str, dimensions: int) -> None:
        """Make an empty collection, unless it is there."""

    def open(self, name: str, dimensions: int) -> VectorStore:
        """The store over a collection."""

    async def drop(self, name: str) -> None:
        """Delete a collection; one that is not there is no error."""

    async def close(self) -> None:
        """Let go of connections."""


async def settle(catalog: Catalog, wanted: Version, dimensions: int) -> Version:
    """The version to serve from at start; where it is not `wanted`, that one is to be built beside it.

    `dimensions` are those of `wanted`. Of the collections beside the one in use those are deleted that the
    settings do not ask for: the one before a switch is kept until the next start with the new settings.
    """
    alias = await catalog.read()
    if alias is None:
        await catalog.create(wanted.name, dimensions)
        alias = Alias(wanted)
        await catalog.write(alias)
    now = replace(
        alias,
        previous=alias.previous if alias.previous == wanted.name else None,
        building=wanted.name if alias.version.name != wanted.name else None,
    )
    for name in {alias.previous, alias.building} - {None, wanted.name, alias.version.name}:
        await catalog.drop(str(name))
    if now != alias:
        await catalog.write(now)
    if now.building:
        await catalog.create(wanted.name, dimensions)
    return now.version


async def switch(catalog: Catalog, version: Version) -> None:
    """Have the next start serve from `version`; the collection in use until now becomes the one before."""
    alias = await catalog.read()
    if alias is None or alias.version.name != version.name:  # else another replica was faster
        await catalog.write(Alias(version, previous=alias.version.name if alias else None))


class EdgeCatalog:
    """Collections are directories in the data directory, the alias is its file `current`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._alias = directory / "current"

    async def read(self) -> Alias | None:
        """Parse the file."""
        try:
            said = json.loads(self._alias.read_text())
            version = Version(said["version"]["name"], said["version"]["settings"])
            return Alias(version, said["previous"], said["building"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "restore it, or delete it to index anew what the settings ask for"
            raise StoreError(f"{self._alias} cannot be read ({error!r}): {hint}") from error

    async def write(self, alias: Alias) -> None:
        """Write beside the file, then rename."""
        version = {"name": alias.version.name, "settings": dict(alias.version.settings)}
        said = {"version": version, "previous": alias.previous, "building": alias.building}
        beside = self._alias.with_suffix(".new")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with beside.open("w") as file:
                json.dump(said, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._alias)
            descriptor = os.open(self._directory, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        except OSError as error:
            message = f"cannot write {self._alias} ({error.strerror}); set CAPSTAN_RETRIEVER_DATA_DIR"
            raise StoreError(message) from error

    async def create(self, name: str, dimensions: int) -> None:
        """Opening makes it."""

    def open(self, name: str, dimensions: int) -> VectorStore:
        """Open or make the shard."""
        return EdgeStore(self._directory / name, dimensions)

    async def drop(self, name: str) -> None:
        """Rename first: half a directory must never look like a collection."""
        doomed = self._directory / f"{name}.deleted"
        shutil.rmtree(doomed, ignore_errors=True)
        try:
            (self._directory / name).rename(doomed)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot delete {self._directory / name}: {error.strerror}") from error
        shutil.rmtree(doomed, ignore_errors=True)

    async def close(self) -> None:
        """Nothing is open."""
