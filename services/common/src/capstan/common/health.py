"""Liveness, readiness and drain.

A drain turns readiness off, keeps serving for the moment that load balancers need to notice, then refuses new work,
lets running requests finish, flushes telemetry, and exits with 0.
"""

from collections.abc import Callable

Ready = Callable[[], str | None]
"""Returns None when the service can do its work, else what it is waiting for."""


class Lifecycle:
    """The state that `/readyz` reports."""

    def __init__(self, ready: Ready, busy: Callable[[], bool] = lambda: False) -> None:
        """`busy`: whether requests run that a drain must wait for before the port closes."""
        self._ready = ready
        self.busy = busy
        self.draining = False
        self.refusing = False
        """New work is refused: the second part of a drain."""

    def waiting_for(self) -> str | None:
        """None when ready, else the reason why not."""
        return "draining" if self.draining else self._ready()
