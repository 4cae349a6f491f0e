"""The admin API as an operator uses it, and what a tenant may ask about itself."""

from pathlib import Path
from typing import Any

import pytest
from control.plane import TODAY, Clock, Plane

from capstan.gateway.admin_models import TenantLimits
from capstan.gateway.config import Tenant
from capstan.gateway.ledger import FileLedger, Used
from capstan.gateway.tenants import FileTenants, add_key

DAY = TODAY.date()
ROUTES = [
    ("GET", "/tenants"),
    ("GET", "/tenants/acme"),
    ("PUT", "/tenants/acme"),
    ("DELETE", "/tenants/acme"),
    ("GET", "/tenants/acme/keys"),
    ("POST", "/tenants/acme/keys"),
    ("POST", "/tenants/acme/keys/k/rotate"),
    ("DELETE", "/tenants/acme/keys/k"),
    ("GET", "/usage"),
    ("POST", "/reload"),
    ("POST", "/drain"),
    ("GET", "/status"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Bearer ü", "Basic admin-key-of-at-least-32-characters"])
async def test_nothing_is_done_without_the_admin_key(plane: Plane, method: str, path: str, authorization: str) -> None:
    headers = {"authorization": authorization.encode("latin-1")}
    response = await plane.ask(method, path, {} if method == "PUT" else None, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_admin_key")
    assert (set(plane.tenants.tenants), plane.drained) == ({"acme"}, 0)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_configured_key_the_answer_says_which_setting_is_missing(
    clock: Clock, method: str, path: str
) -> None:
    plane = Plane(FileTenants(None, {}), FileLedger(None), clock, admin_key=None)
    response = await plane.ask(method, path, {} if method == "PUT" else None)
    assert response.status_code == 404
    assert "CAPSTAN_GATEWAY_ADMIN_KEY" in response.json()["error"]["message"]


async def test_a_tenants_life(plane: Plane) -> None:
    limits = {"models": ["m"], "requests_per_minute": 5, "priority": "batch", "monthly_budget_usd": 12.5}
    created = (await plane.ask("PUT", "/tenants/new", limits)).json()
    assert created["limits"] == {**TenantLimits().model_dump(), **limits}
    key = await plane.new_key("new")
    assert (await plane.as_tenant(key, "/v1/models")).json()["data"][0]["id"] == "m"

    await plane.ask("PUT", "/tenants/new", {"models": ["*"]})
    assert len((await plane.as_tenant(key, "/v1/models")).json()["data"]) == 2
    names = [tenant["name"] for tenant in (await plane.ask("GET", "/tenants")).json()["tenants"]]
    assert names == ["acme", "new"]

    assert (await plane.ask("DELETE", "/tenants/new")).status_code == 204
    assert (await plane.as_tenant(key, "/v1/models")).status_code == 401
    assert (await plane.ask("DELETE", "/tenants/new")).status_code == 404
    assert (await plane.ask("GET", "/tenants/new")).status_code == 404


async def test_a_key_is_shown_once_and_revoked_at_once(plane: Plane) -> None:
    key, other = await plane.new_key(), await plane.new_key()
    listed = await plane.ask("GET", "/tenants/acme/keys")
    assert [k["id"] for k in listed.json()["keys"]] == [key.split(".")[0], other.split(".")[0]]
    assert key.split(".")[1] not in listed.text
    assert "sha256" not in listed.text
    path = f"/tenants/acme/keys/{key.split('.')[0]}"
    assert (await plane.ask("DELETE", path)).status_code == 204
    assert (await plane.ask("DELETE", path)).status_code == 404
    assert (await plane.as_tenant(key, "/v1/models")).status_code == 401
    assert (await plane.as_tenant(other, "/v1/models")).status_code == 200


async def test_a_key_may_be_made_to_expire(plane: Plane) -> None:
    key = await plane.new_key(expires_in_s=60)
    assert (await plane.as_tenant(key, "/v1/models")).status_code == 200
    plane.clock.now += 60
    assert (await plane.as_tenant(key, "/v1/models")).status_code == 401


@pytest.mark.parametrize("grace", [0, 60])
async def test_a_rotated_key_is_valid_for_its_grace(plane: Plane, grace: int) -> None:
    old = await plane.new_key()
    path = f"/tenants/acme/keys/{old.split('.')[0]}/rotate"
    new = (await plane.ask("POST", path, {"grace_s": grace} if grace else None)).json()["key"]
    assert (await plane.as_tenant(new, "/v1/models")).status_code == 200
    assert (await plane.as_tenant(old, "/v1/models")).status_code == (200 if grace else 401)
    plane.clock.now += grace
    assert (await plane.as_tenant(old, "/v1/models")).status_code == 401
    assert (await plane.as_tenant(new, "/v1/models")).status_code == 200


async def test_rotation_does_not_prolong_a_key(plane: Plane) -> None:
    old = await plane.new_key(expires_in_s=60)
    path = f"/tenants/acme/keys/{old.split('.')[0]}/rotate"
    new = (await plane.ask("POST", path, {"grace_s": 3600})).json()["key"]
    plane.clock.now += 60
    for key in (old, new):
        assert (await plane.as_tenant(key, "/v1/models")).status_code == 401


async def test_usage_has_rows_and_totals_in_dollars(plane: Plane) -> None:
    for tenant in ("acme", "other"):
        plane.ledger.add(DAY, tenant, "m", Used(2, 1000, 400, 50, 1_234_567))
    plane.ledger.add(DAY.replace(month=10), "acme", "m", Used(1, 1, 0, 1, 1))
    whole = (await plane.ask("GET", "/usage")).json()
    assert (whole["start"], whole["end"]) == ("2026-11-01", "2026-11-24")
    assert whole["totals"] == {
        "requests": 4,
        "input_tokens": 2000,
        "cached_input_tokens": 800,
        "output_tokens": 100,
        "cost_usd": 2.469134,
    }
    query = {"tenant": "acme", "start": "2026-10-01", "end": "2026-10-31"}
    october = (await plane.ask("GET", "/usage", params=query)).json()
    assert [(row["day"], row["cost_usd"]) for row in october["rows"]] == [("2026-10-24", 0.000001)]
    assert (await plane.ask("GET", "/usage", params={"start": "yesterday"})).status_code == 400


async def test_a_tenant_sees_its_own_usage_and_budget(plane: Plane) -> None:
    await plane.ask("PUT", "/tenants/acme", {"monthly_budget_usd": 2})
    key = await plane.new_key()
    plane.ledger.add(DAY, "acme", "m", Used(1, 10, 0, 5, 500_000))
    plane.ledger.add(DAY, "other", "m", Used(1, 10, 0, 5, 900_000))
    own = (await plane.as_tenant(key, "/v1/usage")).json()
    assert (own["tenant"], own["totals"]["cost_usd"], own["budget_left_usd"]) == ("acme", 0.5, 1.5)
    assert {row["tenant"] for row in own["rows"]} == {"acme"}
    assert own["limits"]["tokens_per_minute"] == 1_000_000


async def test_models_are_those_of_the_key(plane: Plane) -> None:
    await plane.ask("PUT", "/tenants/acme", {"models": ["org/other"]})
    key = await plane.new_key()
    card = {"id": "org/other", "object": "model", "created": 1_767_225_600, "owned_by": "capstan"}
    assert (await plane.as_tenant(key, "/v1/models")).json() == {"object": "list", "data": [card]}
    assert (await plane.as_tenant(key, "/v1/models/org/other")).json() == card
    assert (await plane.as_tenant(key, "/v1/models/m")).status_code == 403
    assert (await plane.as_tenant(key, "/v1/models/x")).status_code == 404


async def test_reload_says_what_is_wrong(plane: Plane) -> None:
    assert (await plane.ask("POST", "/reload")).json() == {"status": "reloaded"}
    plane.mistake = "models.yaml: model 'a' names pool 'q'"
    response = await plane.ask("POST", "/reload")
    assert (response.status_code, response.json()["error"]["message"]) == (409, plane.mistake)


async def test_drain_and_status(plane: Plane) -> None:
    assert (await plane.ask("POST", "/drain")).status_code == 202
    assert plane.drained == 1
    plane.clock.now += 90
    plane.app.state.lifecycle.draining = True
    status = (await plane.ask("GET", "/status")).json()
    assert (status["uptime_s"], status["draining"]) == (90.0, True)
    assert status["pools"]["p"]["upstreams"][0]["health"] == "up"


async def test_each_change_is_one_line_without_a_secret(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "capstan.gateway.admin")
    await plane.ask("PUT", "/tenants/acme", {})
    first = await plane.new_key()
    path = f"/tenants/acme/keys/{first.split('.')[0]}"
    second = (await plane.ask("POST", f"{path}/rotate", {"grace_s": 9})).json()["key"]
    await plane.ask("DELETE", path)
    await plane.ask("DELETE", "/tenants/acme")
    await plane.ask("DELETE", "/tenants/acme")
    lines: list[dict[str, Any]] = [vars(r) for r in caplog.records if r.name == "capstan.gateway.admin"]
    assert [line["what"] for line in lines] == [
        "tenant put", "key created", "key rotated", "key revoked", "tenant deleted",
    ]  # fmt: skip
    assert {(line["who"], line["tenant"]) for line in lines} == {("admin", "acme")}
    for key in (first, second):
        assert key.split(".")[1] not in str(lines)


@pytest.mark.parametrize(
    "limits",
    [
        {"requests_per_minute": 0},
        {"tokens_per_minute": 10**13},
        {"monthly_budget_usd": -1},
        {"priority": "urgent"},
        {"keys": []},
        {"models": [""]},
    ],
)
async def test_limits_that_cannot_be_are_named(plane: Plane, limits: dict[str, Any]) -> None:
    response = await plane.ask("PUT", "/tenants/acme", limits)
    assert response.status_code == 400
    assert next(iter(limits)) in response.json()["error"]["param"]


def test_every_limit_can_be_set() -> None:
    assert {**TenantLimits().model_dump(), "keys": []} == Tenant().model_dump()


async def test_changes_are_in_the_file_before_the_answer(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.yaml"
    add_key(path, "acme")
    plane = Plane(FileTenants(path), FileLedger(None), clock)
    key = await plane.new_key("acme")
    await plane.ask("PUT", "/tenants/new", {"monthly_budget_usd": 3})
    again = Plane(FileTenants(path), FileLedger(None), clock)
    assert (await again.as_tenant(key, "/v1/models")).status_code == 200
    assert again.tenants.tenants["new"].monthly_budget_usd == 3

    path.write_text("tenants: [")
    response = await plane.ask("PUT", "/tenants/third", {})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "config_error")
