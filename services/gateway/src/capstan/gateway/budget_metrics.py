"""Monthly budgets and what has been spent of them, as metrics."""

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from capstan.gateway.quota import Quota
from capstan.gateway.tenants import TenantStore

_INTERVAL_S = 10.0


class BudgetMetrics(Collector):
    """Registered as a collector, so that a tenant that is gone leaves no series behind.

    Spending is the figure that the quota decides by. A scrape cannot wait for Redis: `run` asks every few seconds, and
    a scrape shows the last answer. Gateways with one Redis all show the same.
    """

    def __init__(self, registry: CollectorRegistry, tenants: TenantStore, quota: Quota) -> None:
        self._tenants = tenants
        self._quota = quota
        self._spent: dict[str, int] = {}
        """Micro-dollars."""
        registry.register(self)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(_INTERVAL_S)

    async def read(self) -> None:
        """Ask what has been spent this month."""
        names = list(self._budgets())
        self._spent = dict(zip(names, await asyncio.gather(*map(self._quota.spent, names)), strict=True))

    def collect(self) -> Iterable[Metric]:
        """One sample for each tenant with a budget."""
        limit = GaugeMetricFamily(
            "capstan_gateway_month_budget_dollars", "What a tenant may spend in a calendar month.", labels=("tenant",)
        )
        spent = GaugeMetricFamily(
            "capstan_gateway_month_spent_dollars", "What it has spent in this one (UTC).", labels=("tenant",)
        )
        for tenant, dollars in self._budgets().items():
            limit.add_metric((tenant,), dollars)
            if tenant in self._spent:
                spent.add_metric((tenant,), self._spent[tenant] / 1e6)
        return (limit, spent)

    def _budgets(self) -> dict[str, float]:
        """Dollars by tenant."""
        tenants = self._tenants.tenants.items()
        return {name: t.monthly_budget_usd for name, t in tenants if t.monthly_budget_usd is not None}
