"""What the control plane takes and gives. Money is in dollars with six decimal places, tokens are counts."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from capstan.gateway.config import Key, Tenant
from capstan.gateway.ledger import UsageRow, Used


def _number(value: object) -> object:
    """JSON Schema's numbers are neither `true` nor `"1"`, which pydantic takes; strict, it would refuse 1.0."""
    if isinstance(value, bool | str):
        raise ValueError("this must be a number")  # noqa: TRY004 - pydantic wants it so
    return value


Count = Annotated[int, BeforeValidator(_number)]
Dollars = Annotated[float, Field(ge=0, le=1e9), BeforeValidator(_number)]
Seconds = Annotated[int, Field(gt=0, le=10 * 366 * 86400), BeforeValidator(_number)]


class ErrorDetail(BaseModel):
    """An error as OpenAI's API has them."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """The body of every error."""

    error: ErrorDetail


class TenantLimits(BaseModel):
    """A tenant's limits."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    models: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        ["*"], max_length=1000, description="Names of models, `*` for all."
    )
    requests_per_minute: Count = Field(600, gt=0, le=10**9)
    tokens_per_minute: Count = Field(1_000_000, gt=0, le=10**12)
    max_concurrent: Count = Field(64, gt=0, le=10**6, description="Requests that may run at the same time.")
    priority: Literal["high", "normal", "batch"] = Field("normal", description="Weight in the queue: 4, 2, 1.")
    monthly_budget_usd: Dollars | None = Field(None, description="Per calendar month (UTC).")

    @classmethod
    def of(cls, tenant: Tenant) -> "TenantLimits":
        """The limits of a tenant as it is stored, whatever the bounds of this API."""
        return cls.model_construct(**tenant.model_dump(exclude={"keys"}))


class TenantView(BaseModel):
    """A tenant."""

    name: str
    limits: TenantLimits
    keys: int = Field(description="Number of its keys.")

    @classmethod
    def of(cls, name: str, tenant: Tenant) -> "TenantView":
        """The view of a stored tenant."""
        return cls(name=name, limits=TenantLimits.of(tenant), keys=len(tenant.keys))


class TenantList(BaseModel):
    """All tenants."""

    tenants: list[TenantView]


class KeyRequest(BaseModel):
    """A new key."""

    model_config = ConfigDict(extra="forbid")

    expires_in_s: Seconds | None = Field(None, description="Seconds that it is valid; null: until revoked.")


class RotateRequest(BaseModel):
    """A new key for an old one."""

    model_config = ConfigDict(extra="forbid")

    grace_s: Count = Field(0, ge=0, le=10 * 366 * 86400, description="Seconds that the old key stays valid.")


class KeyView(BaseModel):
    """A key, without anything of its secret."""

    id: str
    created: datetime | None
    expires: datetime | None

    @classmethod
    def of(cls, key: Key) -> "KeyView":
        """The view of a stored key."""
        return cls(id=key.id, created=key.created, expires=key.expires)


class KeyList(BaseModel):
    """A tenant's keys."""

    keys: list[KeyView]


class NewKey(KeyView):
    """A key just made."""

    key: str = Field(description="The key itself. It is shown once and not stored.")


class UsageTotals(BaseModel):
    """Usage."""

    requests: int
    input_tokens: int
    cached_input_tokens: int = Field(description="The part of `input_tokens` that came from a prefix cache.")
    output_tokens: int
    cost_usd: float

    @classmethod
    def fields(cls, used: Used) -> dict[str, Any]:
        """What is counted, under the names of this API."""
        return {
            "requests": used.requests,
            "input_tokens": used.input,
            "cached_input_tokens": used.cached_input,
            "output_tokens": used.output,
            "cost_usd": usd(used.cost),
        }


class UsageEntry(UsageTotals):
    """What a tenant used of a model on a day (UTC)."""

    day: date
    tenant: str
    model: str


class UsageReport(BaseModel):
    """Usage of the days `start` to `end`, both included."""

    start: date
    end: date
    totals: UsageTotals
    rows: list[UsageEntry]


class OwnUsage(UsageReport):
    """A tenant's own usage of this month, and what it may use."""

    tenant: str
    limits: TenantLimits
    budget_left_usd: float | None = Field(description="Null: there is no budget.")


class UpstreamStatus(BaseModel):
    """An upstream."""

    url: str
    health: str = Field(
        description="`up`, `starting` (slow start), `aside` (answered 503), `open` or `half_open` (circuit), or `down`."
    )
    running: int
    outstanding_tokens: int
    adapters: list[str] = []


class PoolStatus(BaseModel):
    """A pool."""

    limit: float = Field(description="Requests that may run now.")
    running: int
    queued: int
    upstreams: list[UpstreamStatus]


class Status(BaseModel):
    """A gateway."""

    version: str
    uptime_s: float
    draining: bool
    pools: dict[str, PoolStatus]


class Done(BaseModel):
    """What was begun or done."""

    status: str


def report(rows: Iterable[UsageRow], start: date, end: date) -> dict[str, Any]:
    """The fields of a `UsageReport`."""
    rows = list(rows)
    totals = Used(*map(sum, zip(*(row.used for row in rows), strict=True))) if rows else Used()
    return {
        "start": start,
        "end": end,
        "totals": UsageTotals.fields(totals),
        "rows": [
            {"day": row.day, "tenant": row.tenant, "model": row.model, **UsageTotals.fields(row.used)} for row in rows
        ],
    }


def usd(micro_dollars: int) -> float:
    """Dollars."""
    return round(micro_dollars / 1e6, 6)
