"""`/admin/v1`: tenants, keys, usage, reload, drain and status, for whoever holds the admin key."""

import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi import Path as PathParameter
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BeforeValidator, SecretStr

from capstan.common.errors import ApiError
from capstan.gateway.admin_models import (
    Done,
    ErrorResponse,
    KeyList,
    KeyRequest,
    KeyView,
    NewKey,
    RotateRequest,
    Status,
    TenantLimits,
    TenantList,
    TenantView,
    UsageReport,
    report,
)
from capstan.gateway.auth import new_key, new_key_id
from capstan.gateway.config import ConfigError, Key, Tenant
from capstan.gateway.ledger import Ledger
from capstan.gateway.tenants import Change, TenantStore

SETTING = "CAPSTAN_GATEWAY_ADMIN_KEY"

log = logging.getLogger("capstan.gateway.admin")

_NAME = r"^[A-Za-z0-9_-]{1,64}$"
TenantPath = Annotated[str, PathParameter(pattern=_NAME)]
KeyPath = Annotated[str, PathParameter(pattern=_NAME)]

_CAUSES = {
    400: "The request is not valid; the message names the field.",
    401: "The key is missing or not valid.",
    403: "The key may not use this model.",
    404: "There is no such thing, or no admin key is set up.",
    409: "It contradicts what is configured; the message names the mistake.",
    413: "The body is too large.",
    503: "Tenants or usage cannot be reached at the moment.",
}
Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """The error answers of a route, for its description."""
    return {status: {"model": ErrorResponse, "description": _CAUSES[status]} for status in statuses}


def day_only(text: object) -> object:
    """Dates are `2026-11-24` and not the other things that pydantic takes for one."""
    if isinstance(text, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise ValueError("a date is written 2026-11-24")
    return text


Day = Annotated[date | None, BeforeValidator(day_only), Query()]


def create_admin(
    admin_key: SecretStr | None,
    *,
    tenants: TenantStore,
    ledger: Ledger,
    reload: Callable[[], Awaitable[None]],
    drain: Callable[[], None],
    status: Callable[[], dict[str, Any]],
    now: Callable[[], float] = time.time,
) -> APIRouter:
    """The routes. `reload` may raise `ConfigError`; `status` gives the fields of `Status`; `now` is Unix time."""
    admin = APIRouter(
        prefix="/admin/v1", tags=["admin"], dependencies=[Depends(_guard(admin_key))], responses=errors(401, 404)
    )
    _add_tenants(admin, tenants)
    _add_keys(admin, tenants, lambda: datetime.fromtimestamp(int(now()), UTC))
    _add_operations(admin, reload, drain, status)

    @admin.get("/usage", responses=errors(400, 503))
    async def usage(
        tenant: Annotated[str | None, Query(pattern=_NAME)] = None, start: Day = None, end: Day = None
    ) -> UsageReport:
        """Usage by day, tenant and model: of this month, or of the days from `start` to `end`."""
        last = end or datetime.fromtimestamp(now(), UTC).date()
        first = start or last.replace(day=1)
        return UsageReport.model_validate(report(await ledger.read(tenant, first, last), first, last))

    return admin


def _guard(admin_key: SecretStr | None) -> Callable[..., Awaitable[None]]:
    bearer = HTTPBearer(auto_error=False, scheme_name="admin key", description=f"The value of `{SETTING}`.")
    wanted = admin_key.get_secret_value().encode() if admin_key is not None else None

    async def guard(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if wanted is None:
            raise ApiError(404, "admin_disabled", f"there is no control plane here; {SETTING} turns it on")
        if given is None or not hmac.compare_digest(given.credentials.encode("latin-1"), wanted):
            raise ApiError(401, "invalid_admin_key", "send the admin key as 'Authorization: Bearer <key>'")

    return guard


def _add_tenants(admin: APIRouter, tenants: TenantStore) -> None:
    @admin.get("/tenants")
    async def list_tenants() -> TenantList:
        """All tenants."""
        views = [TenantView.of(name, tenant) for name, tenant in sorted(tenants.tenants.items())]
        return TenantList(tenants=views)

    @admin.get("/tenants/{tenant}", responses=errors(400))
    async def get_tenant(tenant: TenantPath) -> TenantView:
        """One tenant."""
        return TenantView.of(tenant, _known(tenant, tenants.tenants.get(tenant)))

    @admin.put("/tenants/{tenant}", responses=errors(400, 409, 413, 503))
    async def put_tenant(tenant: TenantPath, limits: TenantLimits) -> TenantView:
        """Create a tenant, or replace its limits. Its keys stay."""

        def put(before: Tenant | None) -> Tenant:
            return Tenant(**limits.model_dump(), keys=before.keys if before else [])

        await _update(tenants, tenant, put)
        _tell("tenant put", tenant, limits=limits.model_dump())
        return TenantView.of(tenant, _known(tenant, tenants.tenants.get(tenant)))

    @admin.delete("/tenants/{tenant}", status_code=204, responses=errors(400, 409, 503))
    async def delete_tenant(tenant: TenantPath) -> None:
        """Delete a tenant with its keys, which are refused at once."""

        def delete(before: Tenant | None) -> None:
            _known(tenant, before)

        await _update(tenants, tenant, delete)
        _tell("tenant deleted", tenant)


def _add_keys(admin: APIRouter, tenants: TenantStore, now: Callable[[], datetime]) -> None:
    @admin.get("/tenants/{tenant}/keys", responses=errors(400))
    async def list_keys(tenant: TenantPath) -> KeyList:
        """A tenant's keys, without their secrets."""
        known = _known(tenant, tenants.tenants.get(tenant))
        return KeyList(keys=[KeyView.of(key) for key in known.keys])

    @admin.post("/tenants/{tenant}/keys", status_code=201, responses=errors(400, 409, 413, 503))
    async def create_key(tenant: TenantPath, wanted: Annotated[KeyRequest | None, Body()] = None) -> NewKey:
        """Create a key. The answer holds it; it is not shown again."""
        expires = now() + timedelta(seconds=wanted.expires_in_s) if wanted and wanted.expires_in_s else None
        key, stored = new_key(new_key_id(tenant), created=now(), expires=expires)
        await _update(tenants, tenant, lambda before: _with_keys(_known(tenant, before), now(), stored))
        _tell("key created", tenant, key_id=stored.id)
        return NewKey(key=key, **KeyView.of(stored).model_dump())

    @admin.post("/tenants/{tenant}/keys/{key_id}/rotate", status_code=201, responses=errors(400, 409, 413, 503))
    async def rotate_key(
        tenant: TenantPath, key_id: KeyPath, wanted: Annotated[RotateRequest | None, Body()] = None
    ) -> NewKey:
        """Create a key in place of another, which stays valid for `grace_s` and is then refused.

        The new one expires when the old one would have.
        """
        old = _key(tenant, tenants.tenants.get(tenant), key_id)
        ends = now() + timedelta(seconds=wanted.grace_s if wanted else 0)
        key, stored = new_key(new_key_id(tenant), created=now(), expires=old.expires)

        def rotate(before: Tenant | None) -> Tenant:
            old = _key(tenant, before, key_id)
            sooner = ends if old.expires is None else min(ends, _aware(old.expires))
            return _with_keys(_known(tenant, before), now(), old.model_copy(update={"expires": sooner}), stored)

        await _update(tenants, tenant, rotate)
        _tell("key rotated", tenant, key_id=key_id, new_key_id=stored.id)
        return NewKey(key=key, **KeyView.of(stored).model_dump())

    @admin.delete("/tenants/{tenant}/keys/{key_id}", status_code=204, responses=errors(400, 409, 503))
    async def revoke_key(tenant: TenantPath, key_id: KeyPath) -> None:
        """Revoke a key, which is refused at once."""

        def revoke(before: Tenant | None) -> Tenant:
            _key(tenant, before, key_id)
            known = _known(tenant, before)
            return known.model_copy(update={"keys": [key for key in known.keys if key.id != key_id]})

        await _update(tenants, tenant, revoke)
        _tell("key revoked", tenant, key_id=key_id)


def _add_operations(
    admin: APIRouter,
    reload: Callable[[], Awaitable[None]],
    drain: Callable[[], None],
    status: Callable[[], dict[str, Any]],
) -> None:
    @admin.post("/reload", responses=errors(409, 503))
    async def reload_files() -> Done:
        """Read models and tenants again. If a file is broken, what is in force stays."""
        with _mistakes_named():
            await reload()
        _tell("reload", "")
        return Done(status="reloaded")

    @admin.post("/drain", status_code=202)
    async def start_drain() -> Done:
        """Stop this gateway: not ready, finish what runs, exit."""
        _tell("drain", "")
        drain()
        return Done(status="draining")

    @admin.get("/status")
    async def get_status() -> Status:
        """This gateway, its pools and their upstreams."""
        return Status.model_validate(status())


async def _update(tenants: TenantStore, name: str, change: Change) -> None:
    with _mistakes_named():
        await tenants.update(name, change)


@contextmanager
def _mistakes_named() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ApiError(409, "config_error", str(error)) from None


def _known(name: str, tenant: Tenant | None) -> Tenant:
    if tenant is None:
        raise ApiError(404, "tenant_not_found", f"there is no tenant {name!r}", param="tenant")
    return tenant


def _key(name: str, tenant: Tenant | None, key_id: str) -> Key:
    for key in _known(name, tenant).keys:
        if key.id == key_id:
            return key
    raise ApiError(404, "key_not_found", f"the tenant {name!r} has no key {key_id!r}", param="key_id")


def _with_keys(tenant: Tenant, now: datetime, *keys: Key) -> Tenant:
    """The tenant with these keys, in place of those of the same id, and without those that have expired."""
    by_id = {key.id: key for key in (*tenant.keys, *keys)}
    valid = [key for key in by_id.values() if key.expires is None or _aware(key.expires) > now]
    return tenant.model_copy(update={"keys": valid})


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _tell(what: str, tenant: str, **more: object) -> None:
    log.info("control plane: %s", what, extra={"who": "admin", "what": what, "tenant": tenant, **more})
