"""Answers from documents: how they come about, how good they are, and whether the index is whole."""

from goals import Goals
from panels import GREEN, RED, Board, Panel, Query, graph, heatmap, quantiles, stat

_RI = "$__rate_interval"


def _rate(metric: str, by: str = "", where: str = "", name: str = "") -> Query:
    """A counter's rate, by a label or under a name."""
    group = f"sum by ({by})" if by else "sum"
    return Query(f"{group} (rate({metric}{where}[{_RI}]))", name or f"{{{{{by}}}}}")


def _share(part: str, whole: str, name: str) -> Query:
    """A part of a whole, where there is a whole."""
    return Query(f"sum(rate({part}[{_RI}])) / sum(rate({whole}[{_RI}]))", name)


def board(_: Goals) -> Board:
    """The dashboard."""
    b = Board("capstan-rag", "Capstan / RAG", "Questions, answers, documents.")
    b.row("Answers", *_answers())
    b.row("Time", *_time())
    b.row("Quality", *_quality())
    b.row("What readers say, and what was left out", *_feedback())
    b.row("Index and ingestion", *_index())
    b.row("", *_uploads(), columns=2)
    b.row("Reranker", *_reranker())
    return b


def _answers() -> list[Panel]:
    answers = "capstan_generator_answers_total"
    return [
        graph(
            "Answers",
            "extractive rising: the model is down, overloaded, or unsupported by its passages.",
            _rate(answers, "mode"),
            unit="reqps",
            stack=True,
        ),
        graph(
            "Abstentions",
            "Questions that found no answer. Rising: documents are missing, or a threshold is too strict.",
            Query(
                f'(sum(rate({answers}{{mode="abstained"}}[{_RI}])) or vector(0)) / sum(rate({answers}[{_RI}]))',
                "abstained",
            ),
            unit="percentunit",
            top=1,
        ),
        graph(
            "Relevance of the best passage",
            "The reranker's score. All low: the documents do not cover what is asked. Two bands: the threshold belongs "
            "between them (CAPSTAN_GENERATOR_MIN_RELEVANCE).",
            *quantiles("capstan_generator_relevance", of=(0.1, 0.5, 0.9)),
            top=1,
        ),
    ]


def _time() -> list[Panel]:
    seconds = "capstan_generator_stage_seconds"
    return [
        graph(
            "Stages, p95",
            "condense, retrieve, rerank and pack come before the first text: the longest one is where to look.",
            *quantiles(seconds, "stage", of=(0.95,), exemplars=True),
            unit="s",
        ),
        graph(
            "Stages, mean",
            "How an answer's time is made up.",
            Query(
                f"sum by (stage) (rate({seconds}_sum[{_RI}])) / ignoring(stage) group_left"
                f" sum(rate(capstan_generator_answers_total[{_RI}]))",
                "{{stage}}",
            ),
            unit="s",
            stack=True,
        ),
        graph(
            "Search, p95",
            "embed high: CPU is short. search high: a large index wants a Qdrant server.",
            Query(
                "histogram_quantile(0.95, sum by (le, mode, phase)"
                f" (rate(capstan_retriever_search_seconds_bucket[{_RI}])))",
                "{{mode}} {{phase}}",
                exemplars=True,
            ),
            unit="s",
        ),
    ]


def _quality() -> list[Panel]:
    sentences = "capstan_generator_sentences_total"
    return [
        graph(
            "Sentences supported by a passage",
            "Of those that claim something. Falling: the model wanders off its evidence.",
            _share(f'{sentences}{{supported="yes"}}', sentences, "supported"),
            unit="percentunit",
            top=1,
        ),
        graph(
            "Citations an answer",
            "Fewer while sentences stay supported: answers got shorter.",
            _share("capstan_generator_citations_total", "capstan_generator_answers_total", "citations"),
        ),
        heatmap(
            "Relevance, all answers",
            "As above, whole: where a threshold would cut.",
            f"sum by (le) (increase(capstan_generator_relevance_bucket[{_RI}]))",
        ),
    ]


def _feedback() -> list[Panel]:
    return [
        graph(
            "Feedback",
            "down rising: read those answers. Clicks are on sources: readers check.",
            Query(f"sum by (kind) (increase(capstan_generator_feedback_total[{_RI}]))", "{{kind}}"),
        ),
        graph(
            "Made do without",
            "unranked: the reranker is down. unembedded: sentences were verified by words alone. withheld: passages "
            "that give orders to language models.",
            _rate("capstan_generator_unranked_total", name="unranked"),
            _rate("capstan_generator_unembedded_total", name="unembedded"),
            _rate("capstan_generator_withheld_passages_total", name="withheld"),
            unit="cps",
        ),
        graph(
            "Empty searches",
            "A rising share: documents are missing, or a tenant has none.",
            Query(
                f"(sum(rate(capstan_retriever_empty_searches_total[{_RI}])) or vector(0))"
                f' / sum(rate(capstan_retriever_search_seconds_count{{phase="search"}}[{_RI}]))',
                "empty",
            ),
            unit="percentunit",
            top=1,
        ),
    ]


def _index() -> list[Panel]:
    return [
        stat("Documents", "A fall without deletions: see the retriever's README.", "max(capstan_retriever_documents)"),
        stat("Chunks", "Pieces that are searched.", "max(capstan_retriever_chunks)"),
        stat(
            "With a vector",
            "The part that dense search sees. Below 100 % while documents are loaded; BM25 sees all at once.",
            "1 - max(capstan_retriever_chunks_pending) / (max(capstan_retriever_chunks) > 0)",
            unit="percentunit",
            decimals=1,
            limits=[(None, RED), (0.5, "yellow"), (0.99, GREEN)],
        ),
        graph(
            "Ingestion",
            "pending stands still while nothing is embedded: see failures and the retriever's log.",
            Query("max(capstan_retriever_chunks_pending)", "pending"),
            _rate("capstan_retriever_embedded_total", name="embedded a second"),
            _rate("capstan_retriever_embedding_failures_total", name="failures a second"),
            _rate("capstan_retriever_build_failures_total", name="build failures a second"),
        ),
    ]


def _uploads() -> list[Panel]:
    return [
        graph(
            "Documents received",
            "updated on each ingest: the client makes up a new revision each time.",
            Query(f"sum by (status) (increase(capstan_retriever_ingested_total[{_RI}]))", "{{status}}"),
            stack=True,
        ),
        graph(
            "Files uploaded",
            "reader_crashed, extraction_unavailable: the log. file_timed_out: more CPU, or a longer EXTRACT_S.",
            Query(f"sum by (outcome) (increase(capstan_retriever_files_total[{_RI}]))", "{{outcome}}"),
            stack=True,
        ),
        graph(
            "Reading a file",
            "Waiting for other files included. Grows with uploads at once: more CPU.",
            *quantiles("capstan_retriever_extraction_seconds", of=(0.5, 0.95)),
            unit="s",
        ),
        graph(
            "Embedding a chunk",
            "Grows when the CPU is shared: fewer EMBED_THREADS, or more CPU.",
            *quantiles("capstan_retriever_embedding_seconds", of=(0.5, 0.95)),
            unit="s",
        ),
    ]


def _reranker() -> list[Panel]:
    return [
        graph(
            "Time of a request",
            "High: fewer candidates, fewer PASSAGE_TOKENS, or more CPU.",
            *quantiles("capstan_reranker_seconds", exemplars=True),
            unit="s",
        ),
        graph(
            "Waiting and refused",
            "waiting near MAX_WAITING, or any refused: another replica.",
            Query("sum by (instance) (capstan_reranker_waiting)", "{{instance}} waiting"),
            _rate("capstan_reranker_refused_total", name="refused a second"),
        ),
        graph(
            "Passages",
            "cached: remembered and free; only late interaction remembers.",
            Query(f"sum by (cached) (rate(capstan_reranker_passages_total[{_RI}]))", "cached {{cached}}"),
            unit="cps",
            stack=True,
        ),
    ]
