"""Where tenants live: a YAML file here, Redis in tenants_redis.py."""

import asyncio
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError

from capstan.gateway.auth import new_key, new_key_id
from capstan.gateway.config import ConfigError, KeysFile, Tenant, read_keys

Changed = Callable[[Mapping[str, Tenant]], None]
Change = Callable[[Tenant | None], Tenant | None]
"""Makes the new state of a tenant from the present one; None: there is no such tenant. May raise to change nothing."""


class TenantStore(Protocol):
    """Where tenants live."""

    @property
    def tenants(self) -> Mapping[str, Tenant]:
        """What the request path reads: a plain dict, replaced whole at each change."""
        ...

    @property
    def stale(self) -> bool:
        """Whether `tenants` is too old to let anyone in."""
        ...

    async def start(self) -> None:
        """Begin to follow changes. Raises `ConfigError`."""
        ...

    async def close(self) -> None:
        """Stop following changes."""
        ...

    async def update(self, name: str, change: Change) -> None:
        """Read, change and write one tenant; nobody's change in between is lost. Durable before it returns.

        Raises `ConfigError` if the result cannot be, `ApiError` 503 if the place cannot be reached, and what
        `change` raises.
        """
        ...

    async def reload(self) -> None:
        """Read everything anew. Raises `ConfigError` and keeps what there was."""
        ...

    def subscribe(self, changed: Changed) -> None:
        """Call `changed` with all tenants after each change."""
        ...


class FileTenants:
    """Tenants in `keys.yaml`, which is the only truth: it is read again before each change.

    Without a path they are `tenants`, kept in memory.
    """

    stale = False

    def __init__(self, path: Path | None, tenants: Mapping[str, Tenant] | None = None) -> None:
        """Raises `ConfigError`."""
        self.tenants: Mapping[str, Tenant] = read_keys(path).tenants if path else tenants or {}
        self._path = path
        self._changing = asyncio.Lock()
        self._subscribers: list[Changed] = []

    async def start(self) -> None:
        """There is nothing to follow."""

    async def close(self) -> None:
        """There is nothing to stop."""

    def subscribe(self, changed: Changed) -> None:
        """See `TenantStore.subscribe`."""
        self._subscribers.append(changed)

    async def update(self, name: str, change: Change) -> None:
        """See `TenantStore.update`."""
        async with self._changing:
            if self._path is None:
                self._replace(changed_tenants(self.tenants, name, change))
            else:
                self._replace(await asyncio.to_thread(_rewrite, self._path, name, change))

    async def reload(self) -> None:
        """See `TenantStore.reload`."""
        async with self._changing:
            if self._path is not None:
                self._replace((await asyncio.to_thread(read_keys, self._path)).tenants)

    def _replace(self, tenants: Mapping[str, Tenant]) -> None:
        self.tenants = tenants
        for changed in self._subscribers:
            changed(tenants)


def changed_tenants(tenants: Mapping[str, Tenant], name: str, change: Change) -> dict[str, Tenant]:
    """All tenants after the change of one. Raises `ConfigError`."""
    after = dict(tenants)
    changed = change(after.pop(name, None))
    if changed is not None:
        after[name] = changed
    return check(after)


def check(tenants: Mapping[str, Tenant]) -> dict[str, Tenant]:
    """Tenants that can be together. Raises `ConfigError`."""
    try:
        return KeysFile.model_validate({"tenants": tenants}).tenants
    except ValidationError as error:
        raise ConfigError(error.errors(include_url=False)[0]["msg"]) from None


def add_key(path: Path, tenant: str) -> str:
    """Create a key for `tenant` (made with default limits if new), store its hash in `path`, return the key.

    Raises `ConfigError`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", tenant):
        raise ConfigError(f"tenant {tenant!r}: a name is 1 to 64 letters, digits, '-' or '_'")
    key, stored = new_key(new_key_id(tenant), created=datetime.now(UTC))

    def add(before: Tenant | None) -> Tenant:
        known = before or Tenant()
        return known.model_copy(update={"keys": [*known.keys, stored]})

    _rewrite(path, tenant, add)
    return key


def _rewrite(path: Path, name: str, change: Change) -> dict[str, Tenant]:
    """Change one tenant in the file; another process that does so at the same time waits. Raises `ConfigError`."""
    with _locked(path):
        before = read_keys(path).tenants if path.exists() else {}
        after = changed_tenants(before, name, change)
        try:
            _write(path, {"tenants": {n: tenant.model_dump() for n, tenant in after.items()}})
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
    return after


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock on the file's directory: the file itself is replaced."""
    try:
        directory = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
        os.fsync(directory)
    finally:
        os.close(directory)


def _write(path: Path, data: dict[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    with open(scratch, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        yaml.safe_dump(data, file, sort_keys=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
