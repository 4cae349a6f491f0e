"""API keys: `<id>.<secret>`, stored as SHA-256, compared in constant time.

A fast hash suffices because the secret has 256 random bits.
"""

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

from capstan.common.identity import IDENTITY_HEADER, InvalidIdentity, Signer
from capstan.gateway.config import ConfigError, Key, KeysFile, Tenant, read_keys
from capstan.gateway.outcome import Outcome, Refusal

_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
_AUTHORIZATION = b"authorization"
_IDENTITY = IDENTITY_HEADER.encode()

INTERNAL_CALLERS = frozenset({"generator"})
"""Services that may call models on behalf of a tenant."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. An internal principal is one of our services, speaking for `tenant`."""

    tenant: str
    limits: Tenant
    internal: bool = False

    def may_use(self, model: str) -> bool:
        """Whether the tenant's list of models holds `model`."""
        return "*" in self.limits.models or model in self.limits.models


class Authenticator:
    """Finds the principal of a request in its headers."""

    def __init__(self, keys: KeysFile, signer: Signer) -> None:
        self._signer = signer
        self._tenants = keys.tenants
        self._by_id = {key.id: (key, name) for name, tenant in keys.tenants.items() for key in tenant.keys}

    def authenticate(self, headers: list[tuple[bytes, bytes]]) -> Principal:
        """The principal, or a 401 `Refusal`."""
        found = dict(headers)
        if (authorization := found.get(_AUTHORIZATION)) is not None:
            return self._by_key(authorization)
        if (token := found.get(_IDENTITY)) is not None:
            return self._by_identity(token.decode("latin-1"))
        raise Refusal(Outcome.INVALID_API_KEY, "no API key: send it as 'Authorization: Bearer <key>'")

    def _by_key(self, authorization: bytes) -> Principal:
        scheme, _, key = authorization.partition(b" ")
        key = key.strip()
        key_id = key.partition(b".")[0].decode("latin-1")
        stored, tenant = self._by_id.get(key_id, (None, ""))
        given = hashlib.sha256(key).hexdigest()
        # An unknown id costs the same comparison, so that timing does not tell which ids exist.
        same = hmac.compare_digest(given, stored.sha256 if stored else _NOBODY)
        if scheme.lower() != b"bearer" or stored is None or not same:
            raise Refusal(
                Outcome.INVALID_API_KEY, "the API key is not valid; check that it is complete and not revoked"
            )
        return Principal(tenant, self._tenants[tenant])

    def _by_identity(self, token: str) -> Principal:
        try:
            identity = self._signer.verify(token)
        except InvalidIdentity as error:
            raise Refusal(Outcome.INVALID_API_KEY, str(error)) from None
        if identity.service not in INTERNAL_CALLERS or identity.tenant not in self._tenants:
            raise Refusal(Outcome.INVALID_API_KEY, "this identity may not call models")
        return Principal(identity.tenant, self._tenants[identity.tenant], internal=True)


def new_key(key_id: str) -> tuple[str, Key]:
    """A fresh API key and what is stored of it."""
    key = f"{key_id}.{secrets.token_urlsafe(32)}"
    return key, Key(id=key_id, sha256=hashlib.sha256(key.encode()).hexdigest())


def add_key(path: Path, tenant: str) -> str:
    """Create a key for `tenant` (made with default limits if new), store its hash in `path`, return the key."""
    keys = read_keys(path) if path.exists() else KeysFile()
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,48}", tenant):
        raise ConfigError(f"tenant {tenant!r}: a name is 1 to 48 letters, digits, '-' or '_'")
    known = keys.tenants.get(tenant, Tenant())
    key, stored = new_key(f"{tenant}-{secrets.token_hex(4)}")
    updated = known.model_copy(update={"keys": [*known.keys, stored]})
    data = KeysFile.model_validate({"tenants": {**keys.tenants, tenant: updated}}).model_dump()
    scratch = path.with_suffix(".new")
    try:
        scratch.write_text(yaml.safe_dump(data, sort_keys=False))
        scratch.chmod(0o600)
        os.replace(scratch, path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return key
