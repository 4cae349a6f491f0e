"""API keys: `<id>.<secret>`, stored as SHA-256, compared in constant time.

A fast hash suffices because the secret has 256 random bits. Keys are checked anew with every request, so that a
revoked one is refused by the next; only our own services' signed identities, which expire soon, are remembered.
"""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import jwt

from capstan.common.identity import IDENTITY_HEADER, InvalidIdentity, Signer
from capstan.gateway.config import Key, Tenant
from capstan.gateway.outcome import Outcome, Refusal

if TYPE_CHECKING:
    from capstan.gateway.tenants import TenantStore

INTERNAL_CALLERS = frozenset({"generator"})
"""Services that may call models on behalf of a tenant."""
WEIGHTS = {"high": 4, "normal": 2, "batch": 1}
"""A tenant's weight in the fair queue by its priority."""

_IDENTITY = IDENTITY_HEADER.encode()
_REMEMBERED = 4096
"""Identities remembered at most."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. An internal principal is one of our services, speaking for `tenant`."""

    tenant: str
    limits: Tenant
    internal: bool = False
    weight: int = WEIGHTS["normal"]
    key_id: str = ""
    models: frozenset[str] | None = None
    """Models that the tenant may use; None: all."""

    def may_use(self, model: str) -> bool:
        """Whether the tenant's list of models holds `model`."""
        return self.models is None or model in self.models


@dataclass(frozen=True, slots=True)
class _Known:
    """A stored key, ready to be compared. `expires` is Unix time."""

    digest: bytes
    expires: float
    principal: Principal


_NOBODY = _Known(secrets.token_bytes(32), math.inf, Principal("", Tenant()))
"""Stands for an unknown key id, which costs the same comparison: timing does not tell which ids exist."""


class Authenticator:
    """Finds the principal of a request in its headers. Follows `store`; `now` is Unix time in seconds."""

    def __init__(self, signer: Signer, store: "TenantStore", now: Callable[[], float] = time.time) -> None:
        self._signer = signer
        self._store = store
        self._now = now
        self._keys: dict[bytes, _Known] = {}
        self._internal: dict[str, Principal] = {}
        self._identities: dict[bytes, tuple[float, Principal]] = {}
        self.replace(store.tenants)
        store.subscribe(self.replace)

    def replace(self, tenants: Mapping[str, Tenant]) -> None:
        """Know these tenants and no others from now on."""
        keys: dict[bytes, _Known] = {}
        internal: dict[str, Principal] = {}
        for name, tenant in tenants.items():
            weight = WEIGHTS[tenant.priority]
            models = None if "*" in tenant.models else frozenset(tenant.models)
            internal[name] = Principal(name, tenant, internal=True, weight=weight, models=models)
            for key in tenant.keys:
                principal = Principal(name, tenant, weight=weight, key_id=key.id, models=models)
                keys[key.id.encode()] = _Known(bytes.fromhex(key.sha256), _unix(key.expires), principal)
        self._keys, self._internal = keys, internal
        self._identities.clear()

    def authenticate(self, headers: Mapping[bytes, bytes] | list[tuple[bytes, bytes]]) -> Principal:
        """The principal, from `Authorization: Bearer`, Anthropic's `x-api-key`, or a service's signed identity.

        `headers` have lower-case names, as ASGI has them. Raises `Refusal`: 401, or 503 when what is known of the
        tenants is too old to be trusted.
        """
        if self._store.stale:
            raise Refusal(
                Outcome.AUTH_UNAVAILABLE, "API keys cannot be checked at the moment; try again", retry_after=5.0
            )
        found = headers if type(headers) is dict else dict(headers)
        if (authorization := found.get(b"authorization")) is not None:
            scheme, _, key = authorization.partition(b" ")
            return self._by_key(key.strip() if scheme.lower() == b"bearer" else b"")
        if (api_key := found.get(b"x-api-key")) is not None:
            return self._by_key(api_key)
        if (identity := found.get(_IDENTITY)) is not None:
            return self._by_identity(identity)
        raise Refusal(Outcome.INVALID_API_KEY, "no API key: send it as 'Authorization: Bearer <key>'")

    def _by_key(self, key: bytes) -> Principal:
        known = self._keys.get(key.partition(b".")[0], _NOBODY)
        if not hmac.compare_digest(hashlib.sha256(key).digest(), known.digest):
            raise Refusal(
                Outcome.INVALID_API_KEY, "the API key is not valid; check that it is complete and not revoked"
            )
        if known.expires <= self._now():
            raise Refusal(Outcome.INVALID_API_KEY, "the API key has expired; ask for a new one")
        return known.principal

    def _by_identity(self, token: bytes) -> Principal:
        expires, principal = self._identities.get(token, (-math.inf, None))
        if principal is not None and expires > self._now():
            return principal
        text = token.decode("latin-1")
        try:
            identity = self._signer.verify(text)
        except InvalidIdentity as error:
            raise Refusal(Outcome.INVALID_API_KEY, str(error)) from None
        principal = self._internal.get(identity.tenant)
        if identity.service not in INTERNAL_CALLERS or principal is None:
            raise Refusal(Outcome.INVALID_API_KEY, "this identity may not call models")
        self._remember(token, float(jwt.decode(text, options={"verify_signature": False})["exp"]), principal)
        return principal

    def _remember(self, token: bytes, expires: float, principal: Principal) -> None:
        if len(self._identities) >= _REMEMBERED:
            del self._identities[next(iter(self._identities))]
        self._identities[token] = (expires, principal)


def new_key(key_id: str, *, created: datetime | None = None, expires: datetime | None = None) -> tuple[str, Key]:
    """A fresh API key and what is stored of it."""
    key = f"{key_id}.{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, Key(id=key_id, sha256=digest, created=created, expires=expires)


def new_key_id(tenant: str) -> str:
    """An id for a key of `tenant`, which is where it can be read in logs."""
    return f"{tenant[:48]}-{secrets.token_hex(6)}"


def _unix(time: datetime | None) -> float:
    """Unix time; a file's time without a zone is UTC, None is never."""
    if time is None:
        return math.inf
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
