"""Per-tenant quotas in memory: requests by GCRA, tokens by reserve and settle, concurrent requests by count.

GCRA (ITU-T I.371) keeps one timestamp per tenant, the theoretical arrival time, instead of windows
with edges that double the limit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from capstan.gateway.config import Tenant
from capstan.gateway.outcome import Outcome, Refusal

MINUTE = 60.0


@dataclass(slots=True)
class _State:
    arrival: float = 0.0
    """Theoretical arrival time of the next request, seconds."""
    tokens: float = 0.0
    """Tokens left; below zero is debt from requests that cost more than they reserved."""
    refilled: float = 0.0
    running: int = 0


@dataclass(slots=True)
class Reservation:
    """What one request holds until it is settled, exactly once."""

    tenant: str
    tokens: int
    settled: bool = False


class MemoryQuota:
    """Quotas of this process. Times are in seconds on an injected clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._states: dict[str, _State] = {}

    def reserve(self, tenant: str, limits: Tenant, tokens: int, *, count_request: bool) -> Reservation:
        """Take a request, a running place and `tokens` from the tenant's quotas, all or nothing.

        A reservation never exceeds a whole minute's tokens, so that no request is refused for ever over
        an estimate. Raises `Refusal`.
        """
        now = self._now()
        state = self._state(tenant, limits, now)
        tokens = min(tokens, limits.tokens_per_minute)
        if count_request:
            self._check_requests(state, limits, now)
        self._check_tokens(state, limits, tokens)
        if count_request:
            state.arrival = max(state.arrival, now) + MINUTE / limits.requests_per_minute
            state.running += 1
        state.tokens -= tokens
        return Reservation(tenant, tokens)

    def settle(self, reservation: Reservation, used: int, *, count_request: bool) -> None:
        """Replace the reserved tokens by those really used. A second call changes nothing."""
        if reservation.settled:
            return
        reservation.settled = True
        state = self._states[reservation.tenant]
        state.tokens += reservation.tokens - used
        if count_request:
            state.running -= 1

    def remaining_requests(self, tenant: str, limits: Tenant) -> int:
        """Requests that the tenant could send at this moment."""
        now = self._now()
        debt = max(0.0, self._state(tenant, limits, now).arrival - now)
        return max(0, int((MINUTE - debt) * limits.requests_per_minute / MINUTE))

    def remaining_tokens(self, tenant: str, limits: Tenant) -> int:
        """Tokens that the tenant could reserve at this moment."""
        return max(0, int(self._state(tenant, limits, self._now()).tokens))

    def _state(self, tenant: str, limits: Tenant, now: float) -> _State:
        state = self._states.get(tenant)
        if state is None:
            state = self._states[tenant] = _State(arrival=now, tokens=limits.tokens_per_minute, refilled=now)
        refill = (now - state.refilled) * limits.tokens_per_minute / MINUTE
        state.tokens = min(float(limits.tokens_per_minute), state.tokens + refill)
        state.refilled = now
        return state

    @staticmethod
    def _check_requests(state: _State, limits: Tenant, now: float) -> None:
        if state.running >= limits.max_concurrent:
            raise Refusal(
                Outcome.CONCURRENCY_QUOTA,
                f"{limits.max_concurrent} requests of this tenant are running, its limit; wait for one to end",
                retry_after=1,
            )
        wait = max(state.arrival, now) + MINUTE / limits.requests_per_minute - now - MINUTE
        if wait > 1e-9:
            raise Refusal(
                Outcome.REQUEST_QUOTA,
                f"the tenant's quota of {limits.requests_per_minute} requests per minute is used up",
                retry_after=wait,
            )

    @staticmethod
    def _check_tokens(state: _State, limits: Tenant, tokens: int) -> None:
        missing = tokens - state.tokens
        if missing > 1e-9:
            raise Refusal(
                Outcome.TOKEN_QUOTA,
                f"the tenant's quota of {limits.tokens_per_minute} tokens per minute is used up",
                retry_after=missing * MINUTE / limits.tokens_per_minute,
            )
