"""The one word for how a request ended, shared by metrics, logs, traces and error bodies."""

from enum import StrEnum

from capstan.common.errors import ApiError


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    CLIENT_CLOSED = "client_closed"
    INVALID_REQUEST = "invalid_request"
    REQUEST_TOO_LARGE = "request_too_large"
    INVALID_API_KEY = "invalid_api_key"
    AUTH_UNAVAILABLE = "auth_unavailable"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    REQUEST_QUOTA = "request_quota_exceeded"
    TOKEN_QUOTA = "token_quota_exceeded"  # noqa: S105 - the word, not a secret
    CONCURRENCY_QUOTA = "concurrency_quota_exceeded"
    BUDGET = "budget_exceeded"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    DRAINING = "draining"
    NO_UPSTREAM = "no_healthy_upstream"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_DIED = "upstream_died"
    INTERNAL_ERROR = "internal_error"


_STATUS = {
    Outcome.INVALID_REQUEST: 400,
    Outcome.REQUEST_TOO_LARGE: 413,
    Outcome.INVALID_API_KEY: 401,
    Outcome.AUTH_UNAVAILABLE: 503,
    Outcome.MODEL_NOT_FOUND: 404,
    Outcome.MODEL_NOT_ALLOWED: 403,
    Outcome.REQUEST_QUOTA: 429,
    Outcome.TOKEN_QUOTA: 429,
    Outcome.CONCURRENCY_QUOTA: 429,
    Outcome.BUDGET: 429,
    Outcome.QUEUE_FULL: 503,
    Outcome.QUEUE_TIMEOUT: 503,
    Outcome.DRAINING: 503,
    Outcome.NO_UPSTREAM: 503,
    Outcome.UPSTREAM_ERROR: 502,
    Outcome.UPSTREAM_TIMEOUT: 504,
    Outcome.UPSTREAM_DIED: 502,
    Outcome.INTERNAL_ERROR: 500,
}


class Refusal(ApiError):
    """An error answered by the gateway itself; its code is its outcome. 429 is the tenant's quota, 503 our overload."""

    def __init__(
        self, outcome: Outcome, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(_STATUS[outcome], outcome.value, message, param=param, retry_after=retry_after)
        self.outcome = outcome
