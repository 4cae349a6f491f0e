"""Finds secrets that were planted in what processes write: whole, in halves, and in the forms that they travel in."""

import base64
import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from running_stack import RunningStack

from capstan.common.identity import Identity, Signer
from capstan.native.stack import admin_key, identity_secret

SHORTEST = 20
"""Characters of a secret at least, so that half of one is not there by chance."""


def secrets_of(stack: RunningStack) -> dict[str, str]:
    """What any stack has."""
    secret = identity_secret(stack.settings.state)
    return {
        "API key": stack.key.partition(".")[2],
        "admin key": admin_key(stack.settings.state),
        "identity secret": secret,
        "signed identity": Signer(secret).sign(Identity("demo", "gateway")).partition(".")[0],  # every JWT's head
    }


def found(secrets: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    """Which secret is in which text: `<name of the secret> in <name of the text>: <the line, as it begins>`."""
    return [
        f"{name} in {place}: {line[:200]}"
        for name, secret in secrets.items()
        for place, text in texts.items()
        for line in text.splitlines()
        if any(form in line for form in forms(secret))
    ]


def forms(secret: str) -> set[str]:
    """What gives it away: either half as it is, in a URL or in JSON, and the whole in base64."""
    assert len(secret) >= SHORTEST, "too short to be searched for"
    middle = len(secret) // 2
    halves = (secret[:middle], secret[middle:])
    written = {form for half in halves for form in (half, quote(half, safe=""), json.dumps(half)[1:-1])}
    return written | set(_base64(secret.encode()))


def _base64(data: bytes) -> Iterator[str]:
    """Its base64 wherever it begins in what is encoded (a user's name stands before a password), without the ends."""
    for before in range(3):
        encoded = base64.b64encode(b" " * before + data).decode()
        yield encoded[4 if before else 0 : -4]
