"""Tenants in keys.yaml: what changes it, what a mistake in it does, and two that write at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from control.plane import Clock

from capstan.common.identity import Signer
from capstan.gateway.auth import Authenticator
from capstan.gateway.config import ConfigError, Tenant, read_keys
from capstan.gateway.tenants import FileTenants, add_key


def test_a_new_key_works_and_only_its_hash_is_stored(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.yaml"
    first, second = add_key(path, "acme"), add_key(path, "acme")
    assert first.split(".")[1] not in path.read_text()
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    authenticator = Authenticator(Signer("s" * 32), FileTenants(path), clock)
    for key in (first, second):
        assert authenticator.authenticate([(b"authorization", f"Bearer {key}".encode())]).tenant == "acme"


def test_a_tenant_name_or_a_file_that_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="my team"):
        add_key(tmp_path / "keys.yaml", "my team")
    with pytest.raises(ConfigError, match="No such file"):
        add_key(tmp_path / "nowhere/keys.yaml", "acme")


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda n: add_key(path, f"t{n % 3}"), range(24)))
    stored = {key.id for tenant in read_keys(path).tenants.values() for key in tenant.keys}
    assert stored == {key.split(".")[0] for key in keys}
    assert [p.name for p in tmp_path.iterdir()] == ["keys.yaml"]


async def test_a_change_keeps_what_others_wrote_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_key(path, "acme")
    store = FileTenants(path)
    add_key(path, "other")  # the command line, while the gateway runs
    await store.update("acme", lambda tenant: tenant and tenant.model_copy(update={"tokens_per_minute": 5}))
    assert set(store.tenants) == set(read_keys(path).tenants) == {"acme", "other"}
    assert read_keys(path).tenants["acme"].tokens_per_minute == 5
    assert len(read_keys(path).tenants["acme"].keys) == 1


async def test_reload_takes_over_the_file_or_keeps_what_there_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_key(path, "acme")
    store = FileTenants(path)
    seen: list[set[str]] = []
    store.subscribe(lambda tenants: seen.append(set(tenants)))
    add_key(path, "other")
    await store.reload()
    path.write_text("tenants: {acme: {request_per_minute: 5}}")
    with pytest.raises(ConfigError, match="request_per_minute"):
        await store.reload()
    assert seen == [{"acme", "other"}]
    assert set(store.tenants) == {"acme", "other"}


async def test_a_broken_file_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_key(path, "acme")
    store = FileTenants(path)
    path.write_text("tenants: [")
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        await store.update("other", lambda _: Tenant())
    assert path.read_text() == "tenants: ["
    assert set(store.tenants) == {"acme"}


async def test_a_key_id_belongs_to_one_tenant(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_key(path, "acme")
    store = FileTenants(path)
    with pytest.raises(ConfigError, match="used twice"):
        await store.update("other", lambda _: store.tenants["acme"])


async def test_a_file_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "keys.yaml"
    add_key(path, "acme")
    store = FileTenants(path)
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ConfigError, match="No space left"):
        await store.update("other", lambda _: Tenant())
    assert set(store.tenants) == {"acme"}
