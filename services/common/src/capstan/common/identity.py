"""Who a request is for: a signed, short-lived header that services pass to each other.

The header is a JWT (RFC 7519, HS256) with the tenant, the service that speaks for it and an expiry.
The gateway signs it after checking the client's API key; everything behind the gateway trusts only it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jwt

IDENTITY_HEADER = "x-capstan-identity"
SHARED_TENANT = "shared"
"""Every tenant may read what this one owns."""

_ALGORITHM = "HS256"
_AUDIENCE = "capstan"


class InvalidIdentity(Exception):
    """The identity header is missing, malformed, expired, or signed with another secret."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`tenant` owns the request; `service` is the Capstan service that speaks for it."""

    tenant: str
    service: str


class Signer:
    """Signs and verifies identity headers with the stack's shared secret."""

    def __init__(self, secret: str, *, ttl_s: int = 300, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._ttl_s = ttl_s
        self._now = now

    def sign(self, identity: Identity) -> str:
        """The header value for `identity`, valid for the signer's time to live."""
        now = int(self._now())
        claims = {
            "sub": identity.tenant,
            "iss": identity.service,
            "aud": _AUDIENCE,
            "iat": now,
            "exp": now + self._ttl_s,
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, token: str | None) -> Identity:
        """The identity in a header value. Raises `InvalidIdentity`."""
        if not token:
            raise InvalidIdentity(
                f"the {IDENTITY_HEADER} header is missing; requests reach this service through the gateway"
            )
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["sub", "iss", "exp"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError as error:
            raise InvalidIdentity(f"the {IDENTITY_HEADER} header is not valid: {error}") from None
        if float(claims["exp"]) <= self._now():
            raise InvalidIdentity(f"the {IDENTITY_HEADER} header has expired")
        return Identity(tenant=claims["sub"], service=claims["iss"])
