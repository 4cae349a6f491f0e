"""The control plane does what its OpenAPI description says, whatever it is sent (schemathesis, all checks)."""

import asyncio
from typing import Any

import pytest
import schemathesis
from control.plane import ADMIN_KEY, Clock, Plane
from hypothesis import HealthCheck, settings

from capstan.gateway.api import APIS
from capstan.gateway.auth import new_key
from capstan.gateway.config import Tenant
from capstan.gateway.ledger import FileLedger, Used
from capstan.gateway.tenants import FileTenants

KEY, STORED = new_key("acme-1")
LIMITS = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _plane() -> Plane:
    clock = Clock()
    plane = Plane(FileTenants(None, {"acme": Tenant(keys=[STORED])}), FileLedger(None), clock)
    plane.ledger.add(Clock().date(), "acme", "m", Used(1, 2, 0, 3, 4))
    return plane
