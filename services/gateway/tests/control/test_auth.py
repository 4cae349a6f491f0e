"""Who is let in: API keys, internal identities, expiry, and what is not known for certain."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from control.plane import TODAY, Clock

from capstan.common.identity import Identity, Signer
from capstan.gateway.auth import Authenticator, Principal, new_key
from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Refusal
from capstan.gateway.tenants import FileTenants

KEY, STORED = new_key("acme-1")
SECRET = "s" * 32


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {key}".encode("latin-1"))]


def identity(tenant: str, service: str, clock: Clock, secret: str = SECRET) -> list[tuple[bytes, bytes]]:
    token = Signer(secret, ttl_s=10, now=clock).sign(Identity(tenant, service))
    return [(b"x-capstan-identity", token.encode())]


def authenticator(clock: Clock, **limits: Any) -> Authenticator:
    store = FileTenants(None, {"acme": Tenant(keys=[STORED], **limits)})
    return Authenticator(Signer(SECRET, now=clock), store, clock)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_key_names_its_tenant(clock: Clock, scheme: str) -> None:
    found = authenticator(clock).authenticate([(b"authorization", (scheme + KEY).encode())])
    assert (found.tenant, found.key_id, found.internal) == ("acme", "acme-1", False)


def test_anthropics_clients_send_the_key_in_their_own_header(clock: Clock) -> None:
    assert authenticator(clock).authenticate([(b"x-api-key", KEY.encode())]).tenant == "acme"


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Bearer acme-1.wrong", "Bearer nobody.x", f"Basic {KEY}", "Bearer acme-1", "Bearer ü.ü",
     f"Bearer {KEY}x", KEY],
    ids=["none", "scheme", "empty", "secret", "name", "basic", "no secret", "latin-1", "longer", "bare"],
)  # fmt: skip
def test_another_key_is_refused(clock: Clock, value: str) -> None:
    with pytest.raises(Refusal, match="not valid") as refusal:
        authenticator(clock).authenticate([(b"authorization", value.encode("latin-1"))])
    assert (refusal.value.status_code, refusal.value.code) == (401, "invalid_api_key")


def test_no_key_says_how_to_send_one(clock: Clock) -> None:
    with pytest.raises(Refusal, match="Authorization: Bearer"):
        authenticator(clock).authenticate([(b"x-nothing", b"1")])


@pytest.mark.parametrize("zone", [UTC, None])
def test_a_key_expires_to_the_second(clock: Clock, zone: Any) -> None:
    expires = (TODAY + timedelta(seconds=10)).replace(tzinfo=zone)
    store = FileTenants(None, {"acme": Tenant(keys=[STORED.model_copy(update={"expires": expires})])})
    asked = Authenticator(Signer(SECRET), store, clock)
    clock.now += 9
    assert asked.authenticate(bearer(KEY)).tenant == "acme"
    clock.now += 1
    with pytest.raises(Refusal, match="expired"):
        asked.authenticate(bearer(KEY))


@pytest.mark.parametrize(("priority", "weight"), [("high", 4), ("normal", 2), ("batch", 1)])
def test_priority_is_a_weight(clock: Clock, priority: str, weight: int) -> None:
    assert authenticator(clock, priority=priority).authenticate(bearer(KEY)).weight == weight


def test_models_are_all_or_a_list(clock: Clock) -> None:
    def may(models: list[str]) -> tuple[bool, bool]:
        found = authenticator(clock, models=models).authenticate(bearer(KEY))
        return found.may_use("m"), found.may_use("other")

    assert [may(["*"]), may(["m"]), may(["m", "*"]), may([])] == [
        (True, True),
        (True, False),
        (True, True),
        (False, False),
    ]


async def test_a_revoked_key_and_its_tenants_identities_are_refused_at_once(clock: Clock) -> None:
    store = FileTenants(None, {"acme": Tenant(keys=[STORED])})
    asked = Authenticator(Signer(SECRET, now=clock), store, clock)
    token = identity("acme", "generator", clock)
    assert asked.authenticate(bearer(KEY))
    assert asked.authenticate(token).internal
    await store.update("acme", lambda _: None)
    for headers in (bearer(KEY), token):
        with pytest.raises(Refusal):
            asked.authenticate(headers)


def test_the_generator_speaks_for_a_tenant_until_its_identity_expires(clock: Clock) -> None:
    asked = authenticator(clock, priority="high")
    token = identity("acme", "generator", clock)
    clock.now += 9
    for _ in range(2):
        found: Principal = asked.authenticate(token)
        assert (found.tenant, found.internal, found.weight) == ("acme", True, 4)
    clock.now += 1
    with pytest.raises(Refusal, match="expired"):
        asked.authenticate(token)


@pytest.mark.parametrize(
    ("tenant", "service", "secret"),
    [("acme", "retriever", SECRET), ("nobody", "generator", SECRET), ("acme", "generator", "t" * 32)],
)
def test_other_identities_do_not(clock: Clock, tenant: str, service: str, secret: str) -> None:
    with pytest.raises(Refusal) as refusal:
        authenticator(clock).authenticate(identity(tenant, service, clock, secret))
    assert refusal.value.status_code == 401


def test_remembered_identities_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capstan.gateway.auth._REMEMBERED", 8)
    asked = authenticator(clock)
    signers = [Signer(SECRET, ttl_s=100 + n, now=clock) for n in range(20)]
    tokens = [[(b"x-capstan-identity", signer.sign(Identity("acme", "generator")).encode())] for signer in signers]
    assert all(asked.authenticate(token).internal for token in tokens)
    assert len(asked._identities) <= 8


def test_tenants_that_are_too_old_let_nobody_in(clock: Clock) -> None:
    class Old(FileTenants):
        stale = False

    store = Old(None, {"acme": Tenant(keys=[STORED])})
    asked = Authenticator(Signer(SECRET), store, clock)
    assert asked.authenticate(bearer(KEY))
    store.stale = True
    with pytest.raises(Refusal) as refusal:
        asked.authenticate(bearer(KEY))
    assert (refusal.value.status_code, refusal.value.code) == (503, "auth_unavailable")
    assert refusal.value.headers == {"retry-after": "5"}


def test_a_key_has_256_random_bits_and_its_hash_says_nothing_of_them() -> None:
    keys = {new_key("a")[0] for _ in range(100)}
    assert len(keys) == 100
    key, stored = new_key("a", created=datetime(2026, 1, 1, tzinfo=UTC))
    assert len(key.split(".")[1]) == 43
    assert key.split(".")[1] not in stored.model_dump_json()
