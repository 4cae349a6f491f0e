"""The control plane does what its OpenAPI description says, whatever it is sent: schemathesis, all its checks."""

from typing import Any

import pytest
import schemathesis
from control.plane import ADMIN_KEY, TODAY, Clock, Plane
from hypothesis import HealthCheck, settings

from capstan.gateway.api import APIS
from capstan.gateway.auth import new_key
from capstan.gateway.config import Tenant
from capstan.gateway.ledger import FileLedger, Used
from capstan.gateway.tenants import FileTenants

KEY, STORED = new_key("acme-1")
SEARCH = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class _Tenants(FileTenants):
    """One tenant with one key, whatever the last request made of it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reset()

    def reset(self) -> None:
        self._replace({"acme": Tenant(keys=[STORED])})


def _plane() -> Plane:
    plane = Plane(_Tenants(), FileLedger(None), Clock())
    plane.ledger.add(TODAY.date(), "acme", "m", Used(1, 2, 0, 3, 4))
    return plane


def _only_known_names(plane: Plane) -> Plane:
    """Its description names the things that there are, so that most requests find them."""
    description = plane.app.openapi()
    names = {"tenant": "acme", "key_id": STORED.id, "name": "m"}
    for path in description["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": [names[parameter["name"]]]}
    plane.app.openapi = lambda: description  # type: ignore[method-assign]
    return plane


def _schema(plane: Plane, **generation: Any) -> Any:
    """What is described, except for the model routes, which are served in front of it."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", plane.app)
    schema.config.generation.update(deterministic=True, **generation)
    return schema.exclude(path=list(APIS))


class _Keys:
    """Sends each route the kind of key that it takes."""

    def get(self, case: schemathesis.Case, _: Any) -> str:
        return ADMIN_KEY if case.path.startswith("/admin") else KEY

    def set(self, case: schemathesis.Case, key: str, _: Any) -> None:
        case.headers["authorization"] = f"Bearer {key}"


def _check(plane: Plane, case: schemathesis.Case) -> None:
    assert isinstance(plane.tenants, _Tenants)
    plane.tenants.reset()
    case.call_and_validate()


any_names = _plane()
schema_of_any_names = _schema(any_names)
schema_of_any_names.auth(refresh_interval=None)(_Keys)
known_names = _only_known_names(_plane())
schema_of_known_names = _schema(known_names, modes=[schemathesis.GenerationMode.POSITIVE])
schema_of_known_names.auth(refresh_interval=None)(_Keys)


@schema_of_any_names.parametrize()
@SEARCH
def test_any_request_gets_a_described_answer(case: schemathesis.Case) -> None:
    _check(any_names, case)


@schema_of_known_names.parametrize()
@SEARCH
def test_requests_for_what_there_is_get_a_described_answer(case: schemathesis.Case) -> None:
    _check(known_names, case)


@pytest.mark.parametrize("path", sorted(APIS))
def test_the_model_routes_are_described(path: str) -> None:
    operation = any_names.app.openapi()["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert {"model", APIS[path].prompt, *APIS[path].limits} <= set(schema["properties"])
    assert "422" not in str(any_names.app.openapi()["paths"].keys())
