"""What an operator can see of a question: one trace through every service, and each service's four signals.

A stack of its own, told to trace, answers one question as a stream; what it left behind is looked at afterwards.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from otlp_receiver import Receiver, Span, otlp_receiver
from planted_secrets import found, secrets_of
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics
from running_stack import RunningStack

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOT_SAMPLED, ABANDONED = "4bf92f3577b34da6a3ce929d0e0e4736", "6be0a3f1c2d94e57a8b1c0d9e8f7a6b5"
REQUEST_ID = "req-of-the-test"
QUESTION = "Which call creates a unidirectional data channel for interprocess communication?"
BODY = {"model": "docs", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
SERVICES = ("gateway", "generator", "retriever", "reranker", "worker")


@dataclass(frozen=True)
class Signals:
    """What a service must show of the question, one name for each signal."""

    metric: str
    span: str
    log: str
    exemplar: str | None


MATRIX = {
    "gateway": Signals(
        "capstan_gateway_requests", "chat docs", "request", "capstan_gateway_time_to_first_byte_seconds"
    ),
    "generator": Signals("capstan_generator_answers", "generate", "request", "capstan_generator_stage_seconds"),
    "retriever": Signals("capstan_retriever_documents", "search", "request", "capstan_retriever_search_seconds"),
    "reranker": Signals("capstan_reranker_passages", "score", "request", "capstan_reranker_seconds"),
    "worker": Signals("vllm:prompt_tokens", "llm_request", "request", None),  # vLLM gives no exemplars
}
EDGES = {
    ("caller", "gateway"),
    ("gateway", "generator"),
    ("generator", "retriever"),
    ("generator", "reranker"),
    ("generator", "gateway"),  # the language model, in the user's name
    ("gateway", "worker"),
    ("gateway", "retriever"),  # a mount
}
INSIDE = {
    "generator": {"condense", "retrieve", "rerank", "pack", "generate", "verify"},
    "retriever": {"embed", "search"},
    "reranker": {"score"},
}


@dataclass(frozen=True)
class Seen:
    """What the stack left behind. `lines` are each service's log lines, in order."""

    secrets: dict[str, str]
    receiver: Receiver
    scraped: dict[str, dict[str, Metric]]
    lines: dict[str, list[str]]

    @property
    def trace(self) -> list[Span]:
        return self.receiver.trace(TRACE)

    def logged(self, service: str, message: str = "request") -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.lines[service]) if line["msg"] == message]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    state = tmp_path_factory.mktemp("traced-stack")
    with otlp_receiver() as receiver:
        tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        stack = RunningStack(state, simulate=True, everywhere=tracing).start()
        try:
            _ask(stack)
            scraped = {name: _scrape(stack, name) for name in SERVICES}
            _leave_early(stack)
        finally:
            stack.stop()  # each service sends what it still has
        yield Seen(secrets_of(stack), receiver, scraped, {name: _lines(state, name) for name in SERVICES})


def _ask(stack: RunningStack) -> None:
    with stack.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": REQUEST_ID}
        with client.stream("POST", "/v1/chat/completions", json=BODY, headers=headers) as response:
            answer = response.read().decode()
        assert "url_citation" in answer
        assert client.get("/v1/documents", headers=headers).status_code == 200
        unseen = {"traceparent": f"00-{NOT_SAMPLED}-{CALLER}-00"}
        assert client.post("/v1/chat/completions", json={**BODY, "stream": False}, headers=unseen).status_code == 200
        assert client.get("/v1/documents", headers=unseen).status_code == 200


def _leave_early(stack: RunningStack) -> None:
    headers = {"traceparent": f"00-{ABANDONED}-{CALLER}-01"}
    with (
        stack.client() as client,
        client.stream("POST", "/v1/chat/completions", json=BODY, headers=headers) as response,
    ):
        assert next(response.iter_lines()).startswith("data:")


def _scrape(stack: RunningStack, service: str) -> dict[str, Metric]:
    """As Prometheus asks, by the name of the family."""
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    with stack.client(service) as client:
        response = client.get("/metrics", headers={"accept": accept})
    is_open = response.headers["content-type"].startswith("application/openmetrics-text")
    parse: Callable[[str], Iterator[Metric]] = open_metrics if is_open else plain_metrics
    return {family.name: family for family in parse(response.text)}


def _lines(state: Path, service: str) -> list[str]:
    return [line for line in (state / "logs" / f"{service}.log").read_text().splitlines() if line]


def test_the_spans_are_one_trace_from_the_callers_on(seen: Seen) -> None:
    ids = {span.span_id for span in seen.trace} | {CALLER}
    assert [span for span in seen.trace if span.parent_id not in ids] == []
    assert [span.name for span in seen.trace if span.failed] == []


def test_every_edge_between_services_appears(seen: Seen) -> None:
    by_id = {span.span_id: span for span in seen.trace}
    entries = [span for span in seen.trace if span.kind == "SERVER"]
    callers = {span.span_id: by_id.get(span.parent_id) for span in entries}
    assert all(caller is None or caller.kind == "CLIENT" for caller in callers.values())
    found = {(caller.service if (caller := callers[span.span_id]) else "caller", span.service) for span in entries}
    assert {tuple(name.removeprefix("capstan-") for name in edge) for edge in found} == EDGES


@pytest.mark.parametrize("service", INSIDE)
def test_a_service_shows_the_steps_of_its_work(seen: Seen, service: str) -> None:
    names = {span.name for span in seen.trace if span.service == f"capstan-{service}" and span.kind == "INTERNAL"}
    assert names == INSIDE[service]


def test_spans_hold_no_text_of_questions_and_documents(seen: Seen) -> None:
    told = _told(seen)
    assert "unidirectional" not in told
    assert "interprocess" not in told


def test_spans_hold_no_secret(seen: Seen) -> None:
    assert "smollm2-135m" in _told(seen), "the spans were not read"
    assert found(seen.secrets, {"spans": _told(seen)}) == []


def _told(seen: Seen) -> str:
    return " ".join(str(value) for span in seen.trace for value in (span.name, *span.attributes.values()))


def test_a_client_that_leaves_leaves_a_whole_trace_and_no_error_in_the_logs(seen: Seen) -> None:
    spans = seen.receiver.trace(ABANDONED)
    assert {"chat docs", "retrieve"} <= {span.name for span in spans}
    assert [span for span in spans if span.parent_id not in {CALLER, *(s.span_id for s in spans)}] == []
    lines = [json.loads(line) for service in SERVICES for line in seen.lines[service]]
    assert [line for line in lines if line["level"] in ("error", "critical")] == []


def test_a_caller_that_is_not_sampled_leaves_no_span_and_no_exemplar(seen: Seen) -> None:
    assert seen.receiver.trace(NOT_SAMPLED) == []
    assert [e for service in SERVICES for e in _exemplars(seen, service) if e == NOT_SAMPLED] == []


@pytest.mark.parametrize("service", MATRIX)
def test_metrics(seen: Seen, service: str) -> None:
    family = seen.scraped[service][MATRIX[service].metric]
    assert sum(s.value for s in family.samples) > 0


@pytest.mark.parametrize("service", MATRIX)
def test_traces(seen: Seen, service: str) -> None:
    assert MATRIX[service].span in {span.name for span in seen.trace if span.service == f"capstan-{service}"}


@pytest.mark.parametrize("service", MATRIX)
def test_logs(seen: Seen, service: str) -> None:
    """Every line is JSON; those of the question name a span that was received."""
    lines = [line for line in seen.logged(service, MATRIX[service].log) if line.get("trace_id") == TRACE]
    assert lines
    assert {line["service"] for line in lines} == {service}
    assert {line["span_id"] for line in lines} <= {span.span_id for span in seen.trace}


@pytest.mark.parametrize("service", MATRIX)
def test_exemplars(seen: Seen, service: str) -> None:
    name = MATRIX[service].exemplar
    if name is None:
        assert _exemplars(seen, service) == []
        return
    assert TRACE in _exemplars(seen, service, name)
    assert TRACE in _exemplars(seen, service, "capstan_http_request_seconds")


def _exemplars(seen: Seen, service: str, name: str | None = None) -> list[str]:
    """Trace ids of the exemplars in one histogram, or in all."""
    families = [family for family in seen.scraped[service].values() if name in (None, family.name)]
    return [s.exemplar.labels["trace_id"] for family in families for s in family.samples if s.exemplar]


def test_one_request_id_joins_the_lines_of_every_service(seen: Seen) -> None:
    of_the_request = {
        service: [line for line in seen.logged(service) if line.get("request_id") == REQUEST_ID] for service in SERVICES
    }
    assert all(of_the_request.values())
    models = [line["model"] for line in of_the_request["gateway"] if "model" in line]
    assert models == ["smollm2-135m", "docs"]  # the inner call ends first
