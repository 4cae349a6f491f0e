"""What a scrape shows of budgets; in memory and in Redis."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from capstan.gateway.budget_metrics import BudgetMetrics
from capstan.gateway.config import Tenant
from capstan.gateway.quota import Quota
from capstan.gateway.tenants import FileTenants


class Shown:
    """The tenant of the test with a budget of $ 50, another without one, and what a scrape shows."""

    def __init__(self, quota: Quota, tenant: str) -> None:
        self.registry = CollectorRegistry()
        self.limits = Tenant(monthly_budget_usd=50)
        self.tenants = FileTenants(None, {tenant: self.limits, "free": Tenant()})
        self.metrics = BudgetMetrics(self.registry, self.tenants, quota)
        self.tenant = tenant
        self.quota = quota

    async def spend(self, dollars: float) -> None:
        reservation = await self.quota.reserve(self.tenant, self.limits, 1, int(dollars * 1e6), counted=True)
        self.quota.settle(reservation, 1, int(dollars * 1e6))

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"capstan_gateway_month_{name}_dollars", {"tenant": self.tenant})


@pytest.fixture
def shown(quota: Quota, tenant: str) -> Shown:
    return Shown(quota, tenant)


async def test_this_months_spending_is_shown_beside_the_budget(shown: Shown) -> None:
    await shown.metrics.read()
    assert (shown.value("budget"), shown.value("spent")) == (50, 0)
    await shown.spend(1.5)
    await shown.spend(2)
    await shown.metrics.read()
    assert (shown.value("budget"), shown.value("spent")) == (50, 3.5)


async def test_a_new_month_begins_at_nothing(shown: Shown, clock: Any) -> None:
    await shown.spend(2)
    clock.now += 31 * 86_400
    await shown.metrics.read()
    assert shown.value("spent") == 0


async def test_only_tenants_with_a_budget_have_series(shown: Shown) -> None:
    await shown.metrics.read()
    samples = [sample for family in shown.registry.collect() for sample in family.samples]
    assert {sample.labels["tenant"] for sample in samples} == {shown.tenant}
    await shown.tenants.update(shown.tenant, lambda _: None)
    assert not [sample for family in shown.registry.collect() for sample in family.samples]
