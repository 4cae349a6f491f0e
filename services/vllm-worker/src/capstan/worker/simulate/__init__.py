"""A vLLM without weights: the same HTTP API, metrics, queueing, prefix cache, aborts and drain."""
