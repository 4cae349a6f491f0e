"""For everybody: is it used, does it work, what does it cost, are the answers good?"""

from goals import Goals
from panels import GREEN, RED, YELLOW, Board, Query, graph, quantiles, stat, table

_EVENTS = 'sum_over_time(capstan:slo_events:rate5m{slo="%s"}[$__range])'
_ERRORS = 'sum_over_time(capstan:slo_errors:rate5m{slo="%s"}[$__range])'
_UP = 'sum(increase(capstan_generator_feedback_total{kind="up"}[$__range]))'
_THUMBS = 'sum(increase(capstan_generator_feedback_total{kind=~"up|down"}[$__range]))'


def _good(slo: str) -> str:
    """The part of the events without an error, over the time that is shown."""
    return f"sum(1 - {_ERRORS % slo} / {_EVENTS % slo})"


def board(goals: Goals) -> Board:
    """The dashboard."""
    b = Board("capstan-overview", "Capstan / Overview", "What the platform does, in a page.", since="now-24h")
    b.row(
        "",
        stat(
            "Requests served",
            "Answered to their end, in the time shown. A question to the documents counts twice: the answer, and the "
            "model's part in it. The Gateway dashboard has them by model and tenant.",
            'sum(increase(capstan_gateway_requests_total{outcome="completed"}[$__range]))',
            decimals=0,
        ),
        stat(
            "Availability",
            f"Of the requests that were ours to answer, the part that was answered. Goal: {goals.availability:.1%}. "
            "Red: open the Gateway dashboard and find the outcome that fails.",
            _good("availability"),
            unit="percentunit",
            decimals=2,
            limits=[(None, RED), (goals.availability, GREEN)],
        ),
        stat(
            f"Began within {goals.ttft_s:g} s",
            f"Of the streamed answers, the part whose first token came in time. Goal: {goals.ttft:.0%}. "
            "Red: the Gateway dashboard says whether requests wait or the model is slow.",
            _good("ttft"),
            unit="percentunit",
            decimals=1,
            limits=[(None, RED), (goals.ttft, GREEN)],
        ),
        stat(
            "Alerts",
            "Firing now; the table below names them, docs/runbooks/ says what to do.",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
            limits=[(None, GREEN), (1, RED)],
        ),
        height=5,
    )
    b.row(
        "",
        stat(
            "Tokens",
            "Read and written for tenants, in the time shown.",
            "sum(increase(capstan_gateway_tokens_total[$__range]))",
            decimals=1,
        ),
        stat(
            "Cost",
            "By the price table in models.yaml, in the time shown. Nothing: no prices are set.",
            "sum(increase(capstan_gateway_cost_dollars_total[$__range]))",
            unit="currencyUSD",
            decimals=2,
        ),
        stat(
            "Questions answered with citations",
            "The others found nothing in the documents, and said so. Falling: documents are missing (RAG dashboard).",
            'sum(increase(capstan_generator_answers_total{mode!="abstained"}[$__range]))'
            " / sum(increase(capstan_generator_answers_total[$__range]))",
            unit="percentunit",
            decimals=0,
        ),
        stat(
            "Thumbs up",
            "Of all thumbs given. Falling: read the answers that got the other thumb.",
            f"{_UP} / ({_THUMBS} > 0)",
            unit="percentunit",
            decimals=0,
        ),
        height=5,
    )
    b.row(
        "Service",
        graph(
            "Requests",
            "Served; failed, which is ours; refused, which is the client's: limits, keys, bad requests, or it left.",
            Query("sum by (class) (capstan:requests:rate5m)", "{{class}}"),
            unit="reqps",
            stack=True,
        ),
        graph(
            "Time to first token",
            "From a request's arrival to the first event of its stream. p95 above the goal: see the Gateway dashboard.",
            *quantiles("capstan_gateway_time_to_first_byte_seconds", of=(0.5, 0.95), exemplars=True),
            Query("capstan:slo_ttft_goal:seconds", "goal"),
            unit="s",
        ),
        graph(
            "Error budget burn, last hour",
            "1 uses a budget up exactly in its period. Above 6 for hours or 14.4 for minutes somebody is called.",
            Query("capstan:slo_burn:ratio_1h", "{{slo}}"),
            limits=[(None, GREEN), (6, YELLOW), (14.4, RED)],
        ),
    )
    b.row(
        "Use",
        graph(
            "Tokens a second",
            "By kind. Output is what takes time and money.",
            Query("sum by (type) (rate(capstan_gateway_tokens_total[$__rate_interval]))", "{{type}}"),
            unit="short",
            stack=True,
        ),
        graph(
            "Cost by model, an hour",
            "By the price table in models.yaml.",
            Query("3600 * sum by (model) (rate(capstan_gateway_cost_dollars_total[$__rate_interval]))", "{{model}}"),
            unit="currencyUSD",
            stack=True,
        ),
        graph(
            "Answers from documents",
            "extractive: the documents' own sentences, for the model was away or unsupported. abstained: none found.",
            Query("60 * sum by (mode) (rate(capstan_generator_answers_total[$__rate_interval]))", "{{mode}} a minute"),
            stack=True,
        ),
    )
    b.row(
        "",
        table(
            "Alerts firing",
            "Each has a page in docs/runbooks/.",
            'ALERTS{alertstate="firing"}',
            columns=["alertname", "severity", "job", "pool", "tenant", "slo", "instance"],
        ),
        height=6,
    )
    return b
