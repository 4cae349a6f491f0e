"""What a training run shows while it runs: loss, speed, progress; as Prometheus metrics.

Every series carries the labels `job` (reranker, pretrain, sft, dpo) and `run`. A value that a run does not have (a
gradient norm, a validation loss, utilization) has no series.
"""

import time
from collections import deque
from collections.abc import Callable
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server
from pydantic import Field

from capstan.common.settings import Port, die
from capstan.jobs.command import JobSettings

_WINDOW = 20  # steps that speed and remaining time are taken over: long enough to be calm, short enough to be current
_LABELS = ("job", "run")


class TrainingSettings(JobSettings):
    """Environment of a job that trains."""

    metrics_port: Port | None = Field(None, description="Port of the training metrics; unset: they are not served.")


class TrainingMetrics:
    """The metrics of one run; where several processes train together, the first one's.

    `tokens_before`: those that a resumed run has seen already. `flops_per_token` (forward and backward) and the
    machine's `peak_flops` a second give the model FLOPs utilization (Chowdhery et al. 2022, PaLM, appendix B). Times
    are in seconds: `now` is a monotonic clock, `wall` a Unix one.
    """

    def __init__(
        self,
        job: str,
        run: str,
        *,
        steps: int,
        tokens_before: int = 0,
        flops_per_token: float | None = None,
        peak_flops: float | None = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._names = (job, run)
        self._servers: list[WSGIServer] = []
        self._steps, self._now, self._wall = steps, now, wall
        self._utilization = flops_per_token / peak_flops if flops_per_token and peak_flops else None
        self._recent = deque([(now(), 0)], maxlen=_WINDOW + 1)
        self._loss = self._gauge("loss", "Loss of the last step (train) or evaluation (val).", "split")
        self._step = self._gauge("step", "Optimizer steps done.")
        self._planned = self._gauge("steps_planned", "Optimizer steps that the run is to have.")
        self._speed = self._gauge("tokens_per_second", f"Tokens a second, over the last {_WINDOW} steps.")
        self._mfu = self._gauge("mfu_ratio", "Model FLOPs a second, to the machine's peak.")
        self._eta = self._gauge("eta_seconds", "Time to the last planned step, at the present speed.")
        self._rate = self._gauge("learning_rate", "Learning rate of the last step.")
        self._norm = self._gauge("gradient_norm", "Norm of the last step's gradient, before clipping.")
        self._saved = self._gauge("checkpoint_timestamp_seconds", "Unix time of the last complete checkpoint.")
        tokens = Counter("capstan_train_tokens", "Tokens trained on.", _LABELS, registry=self.registry)
        self._tokens = tokens.labels(*self._names)
        self._tokens.inc(tokens_before)
        self._set(self._planned, steps)

    def step(
        self, done: int, *, loss: float, tokens: int, learning_rate: float, gradient_norm: float | None = None
    ) -> None:
        """After an optimizer step: `done` counts from the run's beginning, the rest is of this step."""
        (then, before), intervals = self._recent[0], len(self._recent)
        now, seen = self._now(), self._recent[-1][1] + tokens
        self._recent.append((now, seen))
        seconds = max(now - then, 1e-9)
        speed = (seen - before) / seconds
        self._tokens.inc(tokens)
        self._set(self._step, done)
        self._set(self._loss, loss, "train")
        self._set(self._rate, learning_rate)
        self._set(self._speed, speed)
        self._set(self._eta, max(0, self._steps - done) * seconds / intervals)
        if gradient_norm is not None:
            self._set(self._norm, gradient_norm)
        if self._utilization is not None:
            self._set(self._mfu, speed * self._utilization)

    def validation(self, loss: float) -> None:
        """After an evaluation on held-out data."""
        self._set(self._loss, loss, "val")

    def checkpoint(self) -> None:
        """After a checkpoint is complete on disk."""
        self._set(self._saved, self._wall())

    def serve(self, port: int | None) -> None:
        """Serve `/metrics` from a thread, on all addresses; a taken port ends the process with one line and code 2."""
        if port is None:
            return
        try:
            server, _ = start_http_server(port, registry=self.registry)
            self._servers.append(server)
        except OSError as error:
            die(
                f"cannot serve training metrics on port {port} ({error.strerror}); "
                "stop what uses it or set CAPSTAN_JOBS_METRICS_PORT"
            )

    def close(self) -> None:
        """Stop serving: another run of this process may have the port."""
        while self._servers:
            server = self._servers.pop()
            server.shutdown()
            server.server_close()

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"capstan_train_{name}", text, (*_LABELS, *labels), registry=self.registry)

    def _set(self, gauge: Gauge, value: float, *labels: str) -> None:
        gauge.labels(*self._names, *labels).set(value)
