"""Liveness, readiness and drain.

A drain turns readiness off, stops accepting, lets running requests finish, flushes telemetry, and
exits with 0. The moment that load balancers need before it, while requests still arrive, is the
orchestrator's (Kubernetes: `preStop.sleep`).
"""

from collections.abc import Callable

Ready = Callable[[], str | None]
"""Returns None when the service can do its work, else what it is waiting for."""


class Lifecycle:
    """The state that `/readyz` reports."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self.draining = False

    def waiting_for(self) -> str | None:
        """None when ready, else the reason why not."""
        return "draining" if self.draining else self._ready()
