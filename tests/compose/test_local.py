"""`docker compose up` as a newcomer does it: every image built here, a real vLLM, the repository's own documents."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from compose_stack import LOCAL, ComposeStack, Images, build_images
from outcomes import Outcomes

pytestmark = pytest.mark.vllm


@dataclass(frozen=True)
class Local:
    """The stack, and how long its images and its start took, in seconds."""

    stack: ComposeStack
    built_s: float
    started_s: float


@pytest.fixture(scope="module")
def local(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """The local overlay and nothing else."""
    worker = build_images("vllm-worker")
    stack = ComposeStack(tmp_path_factory.mktemp("local"), LOCAL)
    began = time.monotonic()
    try:
        stack.up()
        yield Local(stack, images.seconds + worker.seconds, time.monotonic() - began)
    finally:
        stack.down()


def test_the_local_overlay_answers_with_citations(local: Local, outcomes: Outcomes) -> None:
    began = time.monotonic()
    question = "What happens to a stream when the worker dies during an answer?"
    message = {"role": "user", "content": question}
    with local.stack.client() as client:
        answer = client.post("/v1/chat/completions", json={"model": "docs", "messages": [message]}).raise_for_status()
        chat = client.post(
            "/v1/chat/completions", json={"model": "smollm2-135m", "messages": [message], "max_tokens": 8}
        )
    assert answer.json()["choices"][0]["message"]["annotations"]
    assert chat.json()["usage"]["completion_tokens"] > 0
    assert [local.stack.health(each) for each in local.stack.containers("vllm-worker")] == ["healthy"]
    outcomes.add(
        "`docker compose up` with the local overlay answers with citations within 15 minutes, builds included",
        "none: every image built without a network (what an earlier build left is reused), a real vLLM",
        f"images {local.built_s:.0f} s, start {local.started_s:.0f} s, two answers {time.monotonic() - began:.0f} s",
    )
