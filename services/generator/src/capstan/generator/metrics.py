"""Prometheus metrics of the generator; the README says what to do about each."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from capstan.common.telemetry import exemplar
from capstan.generator.answer import Answer

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SCORES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Metrics:
    """What the answers that were given say of themselves. Those that broke off are not among them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._answers = counter("capstan_generator_answers_total", "Answers by mode.", "mode")
        self._sentences = counter("capstan_generator_sentences_total", "Answer sentences by support.", "supported")
        self._citations = counter("capstan_generator_citations_total", "Citations in answers.")
        self._unranked = counter("capstan_generator_unranked_total", "Answers in the retriever's order, reranker down.")
        self._unembedded = counter("capstan_generator_unembedded_total", "Answers verified by words alone.")
        self._withheld = counter("capstan_generator_withheld_passages_total", "Passages that speak to the model.")
        self._seconds = Histogram(
            "capstan_generator_stage_seconds",
            "Time of each stage of an answer.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._relevance = Histogram(
            "capstan_generator_relevance",
            "The reranker's score of an answer's best passage.",
            buckets=_SCORES,
            registry=registry,
        )

    def record(self, answer: Answer) -> None:
        """Count an answer that has ended."""
        binder, evidence = answer.binder, answer.evidence
        self._answers.labels(answer.mode.value).inc()
        self._sentences.labels("yes").inc(binder.supported)
        self._sentences.labels("no").inc(len(binder.checked) - binder.supported)
        self._citations.inc(len(binder.citations))
        self._unranked.inc(evidence.unranked is not None)
        self._unembedded.inc(binder.verifier.lexical_only)
        self._withheld.inc(answer.withheld)
        for stage, seconds in answer.timed.seconds.items():
            self._seconds.labels(stage).observe(seconds, exemplar())
        if evidence.best is not None:
            self._relevance.observe(evidence.best)
