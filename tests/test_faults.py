"""Each service is killed once in the middle of a stream; the outcome is the one the design promises."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from running_stack import RunningStack

CHAT = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "word " * 200}], "max_tokens": 60}
QUESTION = "How do I record the current state with git stash, and which system call creates a pipe?"
"""Of two documents, so that the answer has two sentences and can die between them."""
DOCS = {"model": "docs", "messages": [{"role": "user", "content": QUESTION}]}


class Stream:
    """A stream that a test reads step by step."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.iter_lines()
        self.events: list[Any] = []

    def read_text(self) -> None:
        """Read until the first words have come."""
        for line in self._lines:
            if self._note(line) and self._content():
                return

    def read_rest(self) -> None:
        """Read to the end."""
        for line in self._lines:
            self._note(line)

    @property
    def done(self) -> bool:
        """Whether the stream ended as a complete one does."""
        return "[DONE]" in self.events

    @property
    def error(self) -> dict[str, Any]:
        """The error event that ended it."""
        error = self.events[-1]["error"]
        assert isinstance(error, dict)
        return error

    def _note(self, line: str) -> bool:
        if not line.startswith("data: "):
            return False
        data = line[6:]
        self.events.append(data if data == "[DONE]" else json.loads(data))
        return True

    def _content(self) -> bool:
        choices = self.events[-1]["choices"]
        return bool(choices and choices[0]["delta"].get("content"))


@contextmanager
def streaming(stack: RunningStack, body: dict[str, Any]) -> Iterator[Stream]:
    """A stream that has begun to show words."""
    with (
        stack.client() as client,
        client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response,
    ):
        assert response.status_code == 200
        stream = Stream(response)
        stream.read_text()
        yield stream


@contextmanager
def killed(stack: RunningStack, name: str) -> Iterator[None]:
    """Kill a service now, bring it back afterwards."""
    stack.kill(name)
    try:
        yield
    finally:
        stack.restart(name)


def ask(stack: RunningStack) -> httpx2.Response:
    with stack.client() as client:
        return client.post("/v1/chat/completions", json=DOCS)


@pytest.mark.parametrize("body", [CHAT, DOCS], ids=["chat", "docs"])
def test_the_worker_dies(stack: RunningStack, body: dict[str, Any]) -> None:
    with streaming(stack, body) as stream, killed(stack, "worker"):
        stream.read_rest()
        assert not stream.done
        assert stream.error["code"] == "upstream_died"
        degraded = ask(stack).json()  # without a model, the documents themselves still answer
        assert degraded["capstan"]["mode"] == "extractive"
        assert degraded["choices"][0]["message"]["annotations"]
    assert ask(stack).json()["capstan"]["mode"] == "generated"


def test_the_generator_dies(stack: RunningStack) -> None:
    with streaming(stack, DOCS) as stream, killed(stack, "generator"):
        stream.read_rest()
        assert not stream.done
        assert stream.error["code"] == "upstream_died"
        down = ask(stack)
        assert (down.status_code, down.json()["error"]["code"]) == (503, "no_healthy_upstream")
    assert ask(stack).status_code == 200


def test_the_retriever_dies(stack: RunningStack) -> None:
    with streaming(stack, DOCS) as stream, killed(stack, "retriever"):
        stream.read_rest()
        assert stream.done  # the evidence had been found already
        down = ask(stack)
        assert (down.status_code, down.json()["error"]["code"]) == (503, "retriever_unavailable")
    assert ask(stack).json()["capstan"]["sources"]  # and nothing was lost


def test_the_reranker_dies(stack: RunningStack) -> None:
    with streaming(stack, DOCS) as stream, killed(stack, "reranker"):
        stream.read_rest()
        assert stream.done
        body = ask(stack).json()
        assert body["capstan"]["reranked"] is False
        assert body["choices"][0]["message"]["annotations"]
    assert ask(stack).json()["capstan"]["reranked"] is True


def test_the_gateway_dies(stack: RunningStack) -> None:
    with streaming(stack, CHAT) as stream, killed(stack, "gateway"):
        with pytest.raises(httpx2.TransportError):
            stream.read_rest()
        assert not stream.done
    assert ask(stack).status_code == 200


@pytest.mark.parametrize("name", ["worker", "generator", "gateway"])
def test_a_drain_finishes_the_stream_and_exits_0(stack: RunningStack, name: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    try:
        with ThreadPoolExecutor() as pool:
            with streaming(stack, DOCS) as stream:
                code = pool.submit(stack.drain, name)
                stream.read_rest()
                assert stream.done
            assert code.result(timeout=60) == 0
    finally:
        stack.revive(name)


def test_a_client_that_leaves_frees_the_worker(stack: RunningStack) -> None:
    assert _becomes(lambda: _running(stack), 0)  # whatever a test before this one left
    with streaming(stack, CHAT):
        assert _running(stack) == 1
    assert _becomes(lambda: _running(stack), 0)


def _running(stack: RunningStack) -> float:
    with stack.client("worker") as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running"))


def _becomes(measure: Any, value: float, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while measure() != value:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
