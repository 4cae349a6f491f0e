"""For whoever is on call: what comes in, how it ends, where it waits, who uses how much, which upstream is ill."""

from goals import Goals
from panels import GREEN, RED, YELLOW, Board, Panel, Query, bars, graph, quantiles, stat

_M = '{model=~"$model"}'
_RI = "$__rate_interval"


def board(_: Goals) -> Board:
    """The dashboard."""
    b = Board("capstan-gateway", "Capstan / Gateway", "The edge: traffic, latency, admission, tenants, upstreams.")
    b.variable("model", "Model", "capstan_gateway_requests_total")
    b.row("Traffic", *_traffic())
    b.row("Latency", *_latency(), columns=2)
    b.row("Admission", *_admission(), columns=2)
    b.row("Tenants", *_tenants(), columns=2)
    b.row("Cost", *_cost())
    b.row("Upstreams", *_upstreams(), columns=3)
    b.row("Limits shared by Redis", *_redis(), height=6)
    b.row("The gateways themselves", *_processes(), columns=2)
    return b


def _traffic() -> list[Panel]:
    return [
        graph(
            "Requests by model",
            "Traffic. A fall to nothing with healthy upstreams: look in front of the gateway.",
            Query(f"sum by (model) (rate(capstan_gateway_requests_total{_M}[{_RI}]))", "{{model}}"),
            unit="reqps",
            stack=True,
        ),
        graph(
            "Outcomes but completed",
            "queue_*: add workers. no_healthy_upstream, upstream_*: that worker. *_quota_exceeded, budget_exceeded: "
            "the tenant's limits. internal_error: the log.",
            Query(
                "sum by (outcome)"
                f' (rate(capstan_gateway_requests_total{{model=~"$model",outcome!="completed"}}[{_RI}]))',
                "{{outcome}}",
            ),
            unit="reqps",
            stack=True,
        ),
        graph(
            "Failed",
            "The part of the requests that were ours to answer and were not; the goal is in recording.yaml.",
            Query(
                'sum(capstan:requests:rate5m{model=~"$model",class="failed"}'
                ' or 0 * capstan:requests:rate5m{model=~"$model"})'
                ' / sum(capstan:requests:rate5m{model=~"$model",class=~"served|failed"})',
                "failed",
            ),
            Query('1 - capstan:slo_objective:ratio{slo="availability"}', "goal"),
            unit="percentunit",
        ),
    ]


def _latency() -> list[Panel]:
    return [
        graph(
            "Time to first token",
            "Arrival to the first event of a stream; dots are requests with their traces. High together with the wait: "
            "capacity. Without: the model's server.",
            *quantiles("capstan_gateway_time_to_first_byte_seconds", where=_M, exemplars=True),
            Query("capstan:slo_ttft_goal:seconds", "goal"),
            unit="s",
        ),
        graph(
            "Time per output token",
            "Rises with the batch: lower max_concurrent, or add workers.",
            *quantiles("capstan_gateway_time_per_output_token_seconds", where=_M, exemplars=True),
            unit="s",
        ),
        graph(
            "Wait for admission",
            "Above the goal for the first token: add workers, or lower queue_timeout_s.",
            *quantiles("capstan_gateway_queue_seconds", where=_M),
            unit="s",
        ),
        graph(
            "The gateway's own time",
            "Until the request was sent on, failed first tries with it. A rise without retries: its core is busy.",
            *quantiles("capstan_gateway_added_seconds", where=_M),
            unit="s",
        ),
    ]


def _admission() -> list[Panel]:
    return [
        graph(
            "Queue",
            "Above zero for minutes: more is asked for than the pool can run. Add workers.",
            Query("sum by (pool) (capstan_gateway_queued)", "{{pool}}"),
        ),
        graph(
            "Running, and the limit",
            "The limit falls below max_concurrent × upstreams when first tokens come late or the KV cache is full.",
            Query("sum by (pool) (capstan_gateway_running)", "{{pool}}"),
            Query("sum by (pool) (capstan_gateway_concurrency_limit)", "{{pool}} limit"),
        ),
        graph(
            "Refused for load",
            "503: the queue has no room, or the wait would be too long. Add workers.",
            Query(
                f'sum by (model) (rate(capstan_gateway_requests_total{{model=~"$model",outcome=~"queue_.*"}}[{_RI}]))'
                f" or 0 * sum by (model) (rate(capstan_gateway_requests_total{_M}[{_RI}]))",
                "{{model}}",
            ),
            unit="reqps",
        ),
        graph(
            "Second tries and fallbacks",
            "Retries: an upstream dies or refuses. Answers of another model than asked: the first one's pool is short.",
            Query(f"sum by (pool) (rate(capstan_gateway_retries_total[{_RI}]))", "{{pool}} retries"),
            Query(f"sum by (model, served) (rate(capstan_gateway_served_total{_M}[{_RI}]))", "{{model}} by {{served}}"),
            unit="reqps",
        ),
    ]


def _tenants() -> list[Panel]:
    return [
        graph(
            "Tokens by tenant",
            "A second; what the fair queue shares out. One far above the rest while others wait: its limits, priority.",
            Query(f"sum by (tenant) (rate(capstan_gateway_tokens_total[{_RI}]))", "{{tenant}}"),
            stack=True,
        ),
        graph(
            "Share of tokens",
            "While all have work and the pool is full, shares follow the priorities (4 : 2 : 1).",
            Query(
                f"sum by (tenant) (rate(capstan_gateway_tokens_total[{_RI}]))"
                f" / ignoring(tenant) group_left sum(rate(capstan_gateway_tokens_total[{_RI}]))",
                "{{tenant}}",
            ),
            unit="percentunit",
            top=1,
            stack=True,
        ),
        graph(
            "Requests by tenant",
            "Who asks.",
            Query(f"sum by (tenant) (rate(capstan_gateway_requests_total{_M}[{_RI}]))", "{{tenant}}"),
            unit="reqps",
            stack=True,
        ),
        graph(
            "Refused by tenant",
            "Limits at work. A tenant that is refused all the time: raise its limit, or tell it.",
            Query(
                "sum by (tenant, outcome)"
                f' (rate(capstan_gateway_requests_total{{model=~"$model",outcome=~".*_exceeded|queue_.*"}}[{_RI}]))',
                "{{tenant}} {{outcome}}",
            ),
            unit="reqps",
        ),
    ]


def _cost() -> list[Panel]:
    return [
        graph(
            "Cost by model, an hour",
            "By the price table in models.yaml.",
            Query(f"3600 * sum by (model) (rate(capstan_gateway_cost_dollars_total{_M}[{_RI}]))", "{{model}}"),
            unit="currencyUSD",
            stack=True,
        ),
        graph(
            "Cost by tenant, an hour",
            "A jump: a loop in a client, or a key in wrong hands.",
            Query(f"3600 * sum by (tenant) (rate(capstan_gateway_cost_dollars_total{_M}[{_RI}]))", "{{tenant}}"),
            unit="currencyUSD",
            stack=True,
        ),
        bars(
            "Budget spent, this month",
            "At 100 % the tenant is refused until the month ends (UTC).",
            Query(
                "max by (tenant) (capstan_gateway_month_spent_dollars / capstan_gateway_month_budget_dollars)",
                "{{tenant}}",
            ),
            unit="percentunit",
            top=1,
            limits=[(None, GREEN), (0.75, YELLOW), (0.9, RED)],
        ),
    ]


def _upstreams() -> list[Panel]:
    return [
        graph(
            "Healthy upstreams",
            "That may get requests. 0: no request of this pool can be served.",
            Query("sum by (pool) (max by (pool, upstream) (capstan_gateway_upstream_healthy))", "{{pool}}"),
        ),
        graph(
            "Open circuits",
            "1: failures in a row although the health path answers. Read that upstream's log.",
            Query("max by (pool, upstream) (capstan_gateway_upstream_circuit_open)", "{{pool}} {{upstream}}"),
            top=1,
        ),
        graph(
            "Outstanding tokens",
            "Uneven for minutes: one upstream is slower than the others.",
            Query("sum by (pool, upstream) (capstan_gateway_upstream_outstanding_tokens)", "{{pool}} {{upstream}}"),
        ),
        graph(
            "Prompts with a known beginning",
            "Blocks that the chosen upstream had been sent before. Low with shared prompts: the caches are too small.",
            Query(
                f"sum by (pool) (rate(capstan_gateway_prefix_hits_total[{_RI}]))"
                f" / sum by (pool) (rate(capstan_gateway_prefix_queries_total[{_RI}]))",
                "{{pool}}",
            ),
            unit="percentunit",
            top=1,
        ),
        graph(
            "Age of what workers told",
            "Above three probe intervals their load is not used: see whether their /metrics can be reached.",
            Query("max by (pool, upstream) (capstan_gateway_upstream_metrics_age_seconds)", "{{pool}} {{upstream}}"),
            unit="s",
        ),
    ]


def _redis() -> list[Panel]:
    return [
        stat(
            "On fallback",
            "Gateways that keep limits by themselves, for Redis does not answer. Bring it back within 15 minutes.",
            "sum(capstan_gateway_quota_fallback)",
            limits=[(None, GREEN), (1, RED)],
        ),
        graph(
            "Age of the tenants",
            "Above a few seconds: key changes do not arrive. At 900 nobody is let in.",
            Query("max by (instance) (capstan_gateway_tenants_age_seconds)", "{{instance}}"),
            unit="s",
        ),
        graph(
            "Fallbacks and forgotten settlements",
            "Fallbacks: Redis is unsteady. Forgotten: tenants stay charged with what they reserved; see the log.",
            Query(f"sum(increase(capstan_gateway_quota_fallbacks_total[{_RI}]))", "fallbacks"),
            Query(f"sum(increase(capstan_gateway_quota_forgotten_settlements_total[{_RI}]))", "forgotten"),
        ),
    ]


def _processes() -> list[Panel]:
    return [
        graph(
            "Client connections",
            "Near the open-files limit: raise that, or add a gateway.",
            Query("sum by (instance) (capstan_gateway_connections)", "{{instance}}"),
        ),
        graph(
            "CPU",
            "A gateway uses one core: near 1, add another.",
            Query(f'sum by (instance) (rate(process_cpu_seconds_total{{job="gateway"}}[{_RI}]))', "{{instance}}"),
        ),
        graph(
            "Memory",
            "Steady after the first hour; a steady rise is a leak.",
            Query('sum by (instance) (process_resident_memory_bytes{job="gateway"})', "{{instance}}"),
            unit="bytes",
        ),
        graph(
            "Control plane and mounts",
            "5xx: the log has them under the request's id; 502 to 504 of a mount: the service behind it.",
            Query(
                f'sum by (status) (rate(capstan_http_requests_total{{service="gateway",route!="/metrics"}}[{_RI}]))',
                "{{status}}",
            ),
            unit="reqps",
            stack=True,
        ),
    ]
