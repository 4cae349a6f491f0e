"""The `openai` client talks to the gateway unchanged."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from documents import ROOT, Code, blocks
from running_stack import DOCUMENTS, RunningStack

CHAT: Any = [{"role": "user", "content": "Tell me about pipes."}]
ADDRESS = "http://127.0.0.1:8000"
EXAMPLES = [code for code in blocks(ROOT / "README.md") if code.language in ("sh", "python") and ADDRESS in code.text]
QUESTION: Any = [{"role": "user", "content": "How do I record the current state of the working directory with git?"}]


@pytest.fixture(params=["simulated", pytest.param("vllm", marks=pytest.mark.vllm)])
def running(request: pytest.FixtureRequest) -> RunningStack:
    stack = request.getfixturevalue("stack" if request.param == "simulated" else "vllm_stack")
    assert isinstance(stack, RunningStack)
    return stack


@pytest.fixture
def client(running: RunningStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url('gateway')}/v1", api_key=running.key, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("code", EXAMPLES, ids=str)
def test_the_readmes_examples_answer_as_they_are_written(code: Code, stack: RunningStack, tmp_path: Path) -> None:
    (tmp_path / ".capstan").mkdir()
    (tmp_path / ".capstan/api-key").write_text(f"{stack.key}\n")
    command = ["bash", "-e"] if code.language == "sh" else [sys.executable]
    done = subprocess.run(
        [*command, "-c", code.text.replace(ADDRESS, stack.url("gateway"))],
        cwd=tmp_path,
        env={**os.environ, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "pipe(2)" in done.stdout, "the source is named"


def test_models(client: openai.OpenAI) -> None:
    named = yaml.safe_load((ROOT / "native/models.yaml").read_text())["models"]
    assert {"smollm2-135m", "docs", "docs:bm25"} < set(named)
    assert {model.id for model in client.models.list()} == set(named)


def test_chat(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="smollm2-135m", messages=CHAT, max_tokens=8, temperature=0)
    assert completion.choices[0].message.content
    assert completion.usage
    assert 0 < completion.usage.completion_tokens <= 8


def test_streaming_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="smollm2-135m",
            messages=CHAT,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage
    assert 0 < chunks[-1].usage.completion_tokens <= 8


def test_streaming_without_usage_has_none(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="smollm2-135m", messages=CHAT, max_tokens=4, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_text_completions(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="smollm2-135m", prompt="The pipe", max_tokens=4)
    assert completion.choices[0].text


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="smollm2-135m, docs"):
        client.chat.completions.create(model="gpt-4", messages=CHAT)
    with pytest.raises(openai.AuthenticationError, match="not valid"):
        client.with_options(api_key="demo.wrong").chat.completions.create(model="docs", messages=CHAT)
    with pytest.raises(openai.BadRequestError, match=r"max_model_len|context length"):
        client.chat.completions.create(model="smollm2-135m", messages=CHAT, max_tokens=1_000_000)


def _check_citations(content: str, annotations: list[dict[str, Any]], sources: list[dict[str, Any]]) -> None:
    texts = {d["id"]: "\n".join(s["text"] for s in d["sections"]) for d in DOCUMENTS}  # type: ignore[attr-defined]
    by_id = {source["id"]: source for source in sources}
    assert annotations
    for annotation in annotations:
        citation = annotation["url_citation"]
        source = by_id[citation["id"]]
        assert content[citation["start_index"] : citation["end_index"]] == f"[{citation['id']}]"
        assert (citation["url"], citation["document_id"]) == (source["url"], source["document_id"])
        assert citation["quote"] in source["text"]
        assert citation["quote"] in texts[citation["document_id"]]


def test_docs_answers_with_citations(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="docs", messages=QUESTION)
    message = completion.choices[0].message
    details = completion.model_extra["capstan"]  # type: ignore[index]
    assert details["mode"] in ("generated", "extractive")  # a small model may find words of its own
    assert details["reranked"] is True
    _check_citations(message.content or "", message.model_dump()["annotations"], details["sources"])
    assert details["sources"][0]["document_id"] == "git/git-stash"
    assert completion.usage
    assert completion.usage.completion_tokens > 0


def test_docs_streams_the_same_citations(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="docs", messages=QUESTION, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    last = chunks[-1].model_dump()
    assert last["choices"][0]["finish_reason"]
    _check_citations(text, last["choices"][0]["delta"]["annotations"], last["capstan"]["sources"])
    times = last["capstan"]["timings_ms"]
    assert times["first_text"] <= times["answer"]  # it streamed


def test_tokens_of_a_question_are_metered_once(running: RunningStack, client: openai.OpenAI) -> None:
    def counted() -> dict[str, float]:
        with running.client() as http:
            lines = http.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith("capstan_gateway_tokens_total{")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in found}

    before = counted()
    usage = client.chat.completions.create(model="docs", messages=QUESTION).usage
    assert usage
    grown = {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}
    assert sum(grown.values()) == usage.total_tokens
    assert all('model="smollm2-135m"' in name and 'tenant="demo"' in name for name in grown)
