"""What each request used and how it ended: metrics, the usage ledger, one log line."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import orjson
from prometheus_client import CollectorRegistry

from capstan.gateway.accesslog import AccessLog
from capstan.gateway.ledger import Ledger, Used
from capstan.gateway.metrics import Counter, Histogram, Traced
from capstan.gateway.outcome import Outcome
from capstan.gateway.record import Record
from capstan.gateway.tap import Usage

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""OpenTelemetry's bounds for the durations of generative AI."""
_TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_OWN = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25)
_DAY = 86_400


class _Instruments:
    """The gateway's counters and histograms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"capstan_gateway_{name}", help, labels, registry)

        def histogram(name: str, help: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"capstan_gateway_{name}_seconds", help, labels, bounds, registry)

        self.requests = counter("requests", "Requests by how they ended.", "tenant", "model", "outcome")
        self.tokens = counter("tokens", "Tokens settled.", "tenant", "model", "type")
        self.cached = counter("cached_tokens", "Input tokens that a prefix cache had.", "tenant", "model")
        self.cost = counter("cost_dollars", "Cost settled.", "tenant", "model")
        self.served = counter("served", "Answers by the model that gave them: arms and fallbacks.", "model", "served")
        self.duration = histogram("request", "Arrival to the last byte of the answer.", _SECONDS, "model", "outcome")
        self.ttft = histogram("time_to_first_byte", "Arrival to the first event of a stream.", _SECONDS, "model")
        self.tpot = histogram(
            "time_per_output_token", "First event of a stream to its end, by output token.", _TPOT, "model"
        )
        self.queue = histogram("queue", "Wait for admission.", _SECONDS, "model")
        self.added = histogram(
            "added", "Time that the gateway itself took before it sent the request on.", _OWN, "model"
        )


class _Series:
    """All that is counted for one tenant, model, answering model and outcome, looked up once."""

    __slots__ = (
        "added", "cached", "completion", "cost", "duration", "fields", "prompt", "queue", "requests", "served", "tpot",
        "ttft",
    )  # fmt: skip

    def __init__(self, to: _Instruments, tenant: str, model: str, served: str, outcome: Outcome) -> None:
        self.requests = to.requests.cell(tenant, model, outcome.value)
        self.duration = to.duration.cell(model, outcome.value)
        self.ttft = to.ttft.cell(model)
        self.tpot = to.tpot.cell(model)
        self.queue = to.queue.cell(model)
        self.added = to.added.cell(model)
        self.prompt = to.tokens.cell(tenant, served or model, "input")
        self.cached = to.cached.cell(tenant, served or model)
        self.completion = to.tokens.cell(tenant, served or model, "output")
        self.cost = to.cost.cell(tenant, served or model)
        self.served = to.served.cell(model, served) if served else None
        named = {"tenant": tenant, "model": model, "outcome": outcome.value}
        if served and served != model:
            named["served"] = served
        self.fields = orjson.dumps(named)[1:-1]


class Metering:
    """Counts requests, tokens, cost and times. `model` and `tenant` labels hold configured names only."""

    def __init__(self, registry: CollectorRegistry, ledger: Ledger, log: AccessLog, wall: Callable[[], float]) -> None:
        """`wall` is Unix time in seconds."""
        self._instruments = _Instruments(registry)
        self._ledger = ledger
        self._log = log
        self._wall = wall
        self._day = date.min
        self._day_ends = 0.0
        self._series: dict[tuple[str, str, str, Outcome], _Series] = {}

    def finish(self, record: Record, ended: float) -> None:
        """Account for a request that has ended."""
        key = (record.tenant, record.model, record.served, record.outcome)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self._instruments, *key)
        seconds = ended - record.started
        traced = (record.trace_id, self._wall()) if record.trace_id else None
        series.requests.value += 1
        series.duration.observe(seconds, traced)
        fields = b'"request_id":"%b",%b,"status":%d,"stream":%b,"ms":%.2f' % (
            record.request_id.encode(),
            series.fields,
            record.status,
            b"true" if record.stream else b"false",
            seconds * 1e3,
        )
        if record.sent:
            fields += self._times(series, record, ended, traced)
        usage = record.usage
        if usage is not None and record.metered:
            self._settle(series, record, usage)
            fields += b',"input_tokens":%d,"output_tokens":%d' % (usage.prompt, usage.completion)
        if record.trace_id:
            fields += b',"trace_id":"%b","span_id":"%b"' % (record.trace_id.encode(), record.span_id.encode())
        self._log.add(fields)

    @staticmethod
    def _times(series: _Series, record: Record, ended: float, traced: Traced | None) -> bytes:
        queued = record.queued_s
        series.queue.observe(queued, traced)
        series.added.observe(record.sent - record.started - queued, traced)
        fields = b',"upstream":"%b"' % record.upstream.encode()
        if queued:
            fields += b',"queued_ms":%.2f' % (queued * 1e3)
        if record.retried:
            fields += b',"retried":true'
        if record.first_byte and not record.whole:
            ttft = record.first_byte - record.started
            series.ttft.observe(ttft, traced)
            fields += b',"ttft_ms":%.2f' % (ttft * 1e3)
            if record.usage is not None and record.usage.completion > 1:
                series.tpot.observe((ended - record.first_byte) / (record.usage.completion - 1), traced)
        return fields

    def _settle(self, series: _Series, record: Record, usage: Usage) -> None:
        series.prompt.value += usage.prompt
        series.completion.value += usage.completion
        if usage.cached:
            series.cached.value += usage.cached
        if record.cost:
            series.cost.value += record.cost / 1e6
        if series.served is not None:
            series.served.value += 1
        used = Used(
            requests=1, input=usage.prompt, cached_input=usage.cached, output=usage.completion, cost=record.cost
        )
        self._ledger.add(self._today(), record.tenant, record.served or record.model, used)

    def _today(self) -> date:
        now = self._wall()
        if now >= self._day_ends:
            self._day = datetime.fromtimestamp(now, UTC).date()
            self._day_ends = (now // _DAY + 1) * _DAY
        return self._day
