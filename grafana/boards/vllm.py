"""The engine: what runs, what waits, and how full its memory is."""

from goals import Goals
from panels import GREEN, RED, YELLOW, Board, Query, graph, quantiles, stat

_W = '{instance=~"$instance"}'


def _by_worker(expr: str, legend: str = "{{instance}}") -> Query:
    return Query(f"sum by (instance) ({expr})", legend)


def board(_: Goals) -> Board:
    """The dashboard."""
    b = Board("capstan-vllm", "Capstan / vLLM", "The workers' engines.")
    b.variable("instance", "Worker", "vllm:num_requests_running")
    b.row(
        "",
        stat("Workers", "Answering Prometheus.", 'sum(up{job="vllm-worker"})', limits=[(None, RED), (1, GREEN)]),
        stat(
            "Tokens a second",
            "Written, all workers together.",
            f"sum(rate(vllm:generation_tokens_total{_W}[$__rate_interval]))",
            decimals=0,
        ),
        stat(
            "KV cache, fullest worker",
            "Above 95 % for minutes: add workers or cache, or lower max_concurrent.",
            f"max(vllm:kv_cache_usage_perc{_W})",
            unit="percentunit",
            decimals=0,
            limits=[(None, GREEN), (0.8, YELLOW), (0.95, RED)],
        ),
        stat(
            "Prefix hits",
            "Prompt tokens that need not be computed. Low with shared system prompts: the cache is too small.",
            f"sum(rate(vllm:prefix_cache_hits_total{_W}[$__rate_interval]))"
            f" / (sum(rate(vllm:prefix_cache_queries_total{_W}[$__rate_interval])) > 0)",
            unit="percentunit",
            decimals=0,
        ),
        height=4,
    )
    b.row(
        "Batch",
        graph(
            "Running",
            "The batch. At CAPSTAN_WORKER_MAX_NUM_SEQS nothing more fits; far below while requests wait: memory.",
            _by_worker(f"vllm:num_requests_running{_W}"),
        ),
        graph(
            "Waiting",
            "In vLLM itself. The gateway's limit should keep this near zero: lower max_concurrent if it is not.",
            _by_worker(f"vllm:num_requests_waiting{_W}"),
        ),
        graph(
            "Tokens a second",
            "Prompts read and text written.",
            Query(f"sum(rate(vllm:prompt_tokens_total{_W}[$__rate_interval]))", "prompt"),
            Query(f"sum(rate(vllm:generation_tokens_total{_W}[$__rate_interval]))", "generation"),
        ),
    )
    b.row(
        "Memory",
        graph(
            "KV cache",
            "Full: requests wait or are preempted. Add workers or cache, or lower max_concurrent.",
            Query(f"max by (instance) (vllm:kv_cache_usage_perc{_W})", "{{instance}}"),
            unit="percentunit",
            top=1,
            limits=[(None, GREEN), (0.95, RED)],
        ),
        graph(
            "Preemptions",
            "Requests put back for want of cache; their work is done twice. More than a few: lower max_concurrent.",
            _by_worker(f"rate(vllm:num_preemptions_total{_W}[$__rate_interval])"),
            unit="cps",
        ),
        graph(
            "Prefix hits",
            "By worker. Uneven: requests with one beginning go to different workers (the gateway's prefix routing).",
            Query(
                f"sum by (instance) (rate(vllm:prefix_cache_hits_total{_W}[$__rate_interval]))"
                f" / sum by (instance) (rate(vllm:prefix_cache_queries_total{_W}[$__rate_interval]))",
                "{{instance}}",
            ),
            unit="percentunit",
            top=1,
        ),
    )
    b.row(
        "Latency in the engine",
        graph(
            "Time to first token",
            "Without the gateway's queue. High while prefill is short: requests wait in vLLM.",
            *quantiles("vllm:time_to_first_token_seconds", where=_W),
            unit="s",
        ),
        graph(
            "Inter-token latency",
            "Rises with the batch. Steps: preemptions, or long prompts that are read between the tokens.",
            *quantiles("vllm:inter_token_latency_seconds", where=_W),
            unit="s",
        ),
        graph(
            "Where a request's time goes, p95",
            "Queue: add workers. Prefill: long prompts, few prefix hits. Decode: long answers, or a large batch.",
            *(
                Query(query.expr, phase)
                for phase in ("queue", "prefill", "decode")
                for query in quantiles(f"vllm:request_{phase}_time_seconds", of=(0.95,), where=_W)
            ),
            unit="s",
        ),
    )
    b.row(
        "Ends",
        graph(
            "Requests by how they ended",
            "abort: cut off by a drain. error: the worker's log.",
            Query(
                f"sum by (finished_reason) (rate(vllm:request_success_total{_W}[$__rate_interval]))",
                "{{finished_reason}}",
            ),
            unit="reqps",
            stack=True,
        ),
        graph(
            "Refused by the engine",
            "Its own queue limit. The gateway tries another; steady refusals: max_concurrent is above that limit.",
            Query(
                f"sum by (reason) (rate(vllm:admission_rejections_total{_W}[$__rate_interval]))",
                "{{reason}}",
            ),
            unit="reqps",
        ),
    )
    return b
