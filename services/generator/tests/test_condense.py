"""Follow-up questions made to stand on their own."""

import json
from typing import Any

import pytest

from capstan.generator.condense import Turn, condense

CONVERSATIONS = [
    # a question that stands on its own stays as it is
    (["How do I stage a file?"], "How do I stage a file?"),
    (["How do I stage a file?", "What does VACUUM FULL do in PostgreSQL?"], "What does VACUUM FULL do in PostgreSQL?"),
    (["How do I stage a file?", "Is it possible to clone a repository over HTTP?"], None),
    (["What is a pipe?", "Is there a way to list tables in SQLite?"], None),
    (["What is a pipe?", "How do I make sure that a Python list is sorted?"], None),
    # pronouns and other words that refer back
    (["How do I stage a file in git?", "How do I undo it?"], "How do I undo it? (stage file git)"),
    (["What does fork return?", "And why does it return twice?"], "And why does it return twice? (fork)"),
    (["How do I create an S3 bucket?", "Can I delete that again?"], "Can I delete that again? (create S3 bucket)"),
    (["What is autovacuum?", "How can I turn this off?"], "How can I turn this off? (autovacuum)"),
    # too little to go by
    (["How do I list files in Perl?", "And in Python?"], "And in Python? (list files Perl)"),
    (["How do I list files in Perl?", "Recursively?"], "Recursively? (list files Perl)"),
    (["How does git bisect work?", "Why?"], "Why? (git bisect work)"),
    (["How does git bisect work?", "Give me an example please"], "Give me an example please (git bisect work)"),
    (["What is WAL mode?", "What about performance?"], "What about performance? (WAL mode)"),
    # over several turns the topic is carried on, and nothing twice
    (
        ["How do I stage a file in git?", "How do I undo it?", "And for all files?"],
        "And for all files? (undo stage git)",
    ),
    (["How do I stage a file?", "What is a pipe in Linux?", "How large is it?"], "How large is it? (pipe Linux)"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "standalone"), CONVERSATIONS)
def test_by_rule(asked: list[str], standalone: str | None) -> None:
    assert condense([Turn("user", text) for text in asked]) == (standalone or asked[-1])


def test_a_command_of_the_answer_before_is_taken_along_where_the_question_refers_to_it() -> None:
    turns = [Turn("user", "How do I list buckets?"), Turn("assistant", "Use `aws s3 ls`. [1]")]
    assert condense([*turns, Turn("user", "Does it show hidden ones?")]).endswith("(list buckets aws s3 ls)")


def test_what_is_carried_is_bounded() -> None:
    long = "How do I " + " ".join(f"word{i}" for i in range(300)) + "?"
    assert len(condense([Turn("user", long), Turn("user", "Why?")])) < 120


HISTORY = [
    {"role": "user", "content": "How do I stage a file?"},
    {"role": "assistant", "content": "With git add."},
    {"role": "user", "content": "And undo it?"},
]


async def ask(setup: Any) -> dict[str, Any]:
    request = {"model": "docs", "messages": HISTORY}
    body: dict[str, Any] = (await setup.client.post("/v1/chat/completions", json=request)).json()
    return body


async def test_a_model_may_condense(generator: Any) -> None:
    setup = await generator(condense="model")
    setup.neighbours.condensed = '"How do I undo staging a file with git add?"\n'
    body = await ask(setup)
    assert setup.neighbours.searches[0]["query"] == "How do I undo staging a file with git add?"
    assert body["capstan"]["question"] == "How do I undo staging a file with git add?"
    assert "With git add." in setup.neighbours.llm_bodies[0]["messages"][1]["content"]
    assert body["usage"]["total_tokens"] == 2 * 59


@pytest.mark.parametrize(
    "said", ["", "I am a helpful assistant.", "undo " * 200, "Undo\nit?", "How do I stage a file?", "What is a banana?"]
)
async def test_a_model_that_condenses_badly_is_not_believed(generator: Any, said: str) -> None:
    setup = await generator(condense="model")
    setup.neighbours.condensed = said
    assert (await ask(setup))["capstan"]["question"] == "And undo it? (stage file)"


async def test_a_model_that_is_down_or_slow_does_not_keep_the_question_waiting(generator: Any) -> None:
    setup = await generator(condense="model", condense_timeout_s=0.01)
    setup.neighbours.pause = True
    setup.neighbours.condensed = "How do I undo staging a file?"
    body = {"model": "docs", "messages": HISTORY, "capstan": {"extractive": True}}
    answer = (await setup.client.post("/v1/chat/completions", json=body)).json()
    assert answer["capstan"]["question"] == "And undo it? (stage file)"
    setup.neighbours.llm_status = 503
    assert (await ask(setup))["capstan"]["question"] == "And undo it? (stage file)"


async def test_a_single_question_costs_no_extra_call(generator: Any) -> None:
    setup = await generator(condense="model")
    await setup.ask()
    assert len(setup.neighbours.llm_bodies) == 1
    assert json.dumps(setup.neighbours.llm_bodies).count("on its own") == 0
