"""What the three runs share: the workers, the gateway's pool, and the ways to reach them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.overload.cluster import Cluster, Front, cluster, gateway, peer

SLO_TTFT_S = 0.5
"""A request is good when it is completed and its first token came within this time."""
GRACE_S = 2.5
"""Seconds after a load's end in which running requests may finish; an answer takes one at most."""

WORKER: dict[str, Any] = {
    "max_num_seqs": 32,
    "sim_ttft_ms": 50,
    "sim_prefill_tokens_per_s": 20_000,
    "sim_tpot_ms": 10,
    "sim_tpot_growth": 0.02,
}
"""Settings of a simulated worker (`CAPSTAN_WORKER_…`): about an 8B model on one GPU, in batches of 32."""
POOL: dict[str, Any] = {
    "max_concurrent": WORKER["max_num_seqs"],
    "max_queued": 128,
    "queue_timeout_s": SLO_TTFT_S / 2,  # half of the SLO for waiting, half for the worker
    "ttft_target_s": SLO_TTFT_S / 2,
}


@dataclass(frozen=True)
class Bench:
    """One invocation: where its files lie, the peer's program, how long its loads last, where it reports."""

    directory: Path
    router: Path
    keys: Mapping[str, str]
    quick: bool
    say: Callable[[str], None]

    @property
    def warm_up_s(self) -> float:
        """Seconds at a load's start that no figure counts: the gateway's limit begins low and takes some to grow."""
        return 3.0 if self.quick else 4.0

    def seconds(self, full: float, quick: float) -> float:
        """A load's length, with its warm-up."""
        return self.warm_up_s + (quick if self.quick else full)

    def fronts(self, workers: int) -> dict[str, Front | None]:
        """The three ways that are compared: through the gateway, straight to the workers, through the peer.

        The peer gets the gateway's limits as far as it has such settings.
        """
        limits = {
            "--max-concurrent-requests": POOL["max_concurrent"] * workers,
            "--queue-size": POOL["max_queued"],
            "--queue-timeout-secs": max(1, round(POOL["queue_timeout_s"])),
        }
        options = [word for name, value in limits.items() for word in (name, str(value))]
        return {
            "gateway": gateway(self.directory, POOL, "least_tokens"),
            "direct": None,
            "peer": peer(self.router, "round_robin", *options),
        }

    def cluster(
        self, front: Front | None, count: int, worker: Mapping[str, Any] = WORKER
    ) -> AbstractAsyncContextManager[Cluster]:
        """`count` fresh workers behind `front`."""
        return cluster(self.directory, worker, count, front, self.keys)
