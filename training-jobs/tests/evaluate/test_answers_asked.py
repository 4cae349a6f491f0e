import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan.common.identity import IDENTITY_HEADER, Signer
from capstan.jobs.evaluate import context
from capstan.jobs.evaluate.asking import Answer, ask_all, headers_for, meaning_of, plan
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.verifier import Verifier

SECRET = "0123456789abcdef0123456789abcdef"


def question(id_: str, *, withhold: bool = False) -> Question:
    return Question(
        id_, f"How {id_}?", f"How {id_}?", "Because.", frozenset({f"doc/{id_}", "doc/all"}), "s", "test", withhold
    )


class Generator:
    """Answers chat completions; `wrong` are statuses to give first."""

    def __init__(self, wrong: list[int] | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[httpx2.Headers] = []
        self.wrong = wrong or []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        self.headers.append(request.headers)
        if self.wrong:
            error = {"error": {"message": "not now"}}
            return httpx2.Response(self.wrong.pop(0), json=error, headers={"retry-after": "3"})
        message = {"content": f"Answer to {body['messages'][0]['content']}", "annotations": []}
        return httpx2.Response(200, json={"choices": [{"message": message}], "capstan": {"mode": "generated"}})

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url="http://generator", transport=httpx2.MockTransport(self))


async def ask(generator: Generator, path: Path, questions: list[Question], **options: Any) -> list[Answer]:
    slept: list[float] = options.pop("slept", [])

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with generator.client() as client:
        asks = plan(questions, "docs:hybrid", options.pop("options", {}), options.pop("meaning", ""))
        return await ask_all(asks, client, headers_for("key", None), path, sleep=sleep)


async def test_a_withheld_question_is_asked_both_ways(tmp_path: Path) -> None:
    generator = Generator()
    found = await ask(generator, tmp_path / "a.jsonl", [question("a"), question("b", withhold=True)])
    assert [(a.id, a.condition) for a in found] == [("a", "given"), ("b", "given"), ("b", "withheld")]
    excluded = [body.get("capstan", {}).get("exclude") for body in generator.bodies]
    assert sorted(excluded, key=str) == [None, None, ["doc/all", "doc/b"]] or excluded.count(None) == 2
    assert generator.headers[0]["authorization"] == "Bearer key"
    assert {body["model"] for body in generator.bodies} == {"docs:hybrid"}


async def test_what_was_asked_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = await ask(Generator(), path, [question("a")])
    again = Generator()
    assert await ask(again, path, [question("a"), question("b")]) == [
        *first,
        *await ask(Generator(), path, [question("b")]),
    ]
    assert len(again.bodies) == 1


async def test_other_options_and_another_meaning_of_the_arm_are_asked_anew(tmp_path: Path) -> None:
    path, generator = tmp_path / "a.jsonl", Generator()
    await ask(generator, path, [question("a")])
    await ask(generator, path, [question("a")], options={"rerank": False})
    await ask(generator, path, [question("a")], meaning="the arm has other options now")
    assert len(generator.bodies) == 3


async def test_a_failure_is_kept_as_one_and_asked_again_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    (failed,) = await ask(Generator([500]), path, [question("a")])
    assert failed.error == "500: not now"
    (answered,) = await ask(Generator(), path, [question("a")])
    assert answered.error is None


async def test_a_busy_server_is_asked_again_when_it_says(tmp_path: Path) -> None:
    slept: list[float] = []
    (found,) = await ask(Generator([503, 429]), tmp_path / "a.jsonl", [question("a")], slept=slept)
    assert found.error is None
    assert slept == [3.0, 3.0]


async def test_a_line_cut_short_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    await ask(Generator(), path, [question("a"), question("b")])
    path.write_text(path.read_text()[:-20])
    again = Generator()
    found = await ask(again, path, [question("a"), question("b")])
    assert len(again.bodies) == 1
    assert all(a.error is None for a in found)


async def test_without_a_server_the_message_says_so() -> None:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async with httpx2.AsyncClient(base_url="http://nowhere", transport=httpx2.MockTransport(refuse)) as client:
        with pytest.raises(EvaluateError, match="is the stack up"):
            await meaning_of(client, "docs", headers_for("key", None))


def test_who_asks_is_said_one_way_or_the_other() -> None:
    header = headers_for(None, SECRET)()[IDENTITY_HEADER]
    assert Signer(SECRET).verify(header).service == "evaluate"
    with pytest.raises(EvaluateError, match="--key"):
        headers_for(None, None)


def test_the_samples_text_has_no_markers() -> None:
    cite = {"type": "url_citation", "url_citation": {"start_index": 9, "end_index": 12, "id": 1}}
    other = {"type": "url_citation", "url_citation": {"start_index": 20, "end_index": 23, "id": 2}}
    one = Answer("k", "a", "given", "docs", "?", text="Use this [1]. Or so [2].", annotations=[other, cite])
    assert context.strip_markers(one) == "Use this. Or so."


def sample(
    ids: list[str], gold: list[str], contexts: list[str], reference: str = "Because it is so by its nature."
) -> dict[str, Any]:
    return {"context_ids": ids, "reference_ids": gold, "contexts": contexts, "reference": reference, "abstained": False}


def test_context_metrics_by_hand() -> None:
    """Gold at places 2 and 3 of 4: (1/2 + 2/3) / 2; two of three ids; one of two gold documents."""
    found = context.measure(sample(["x", "a", "a", "y"], ["a", "b"], ["-"] * 4), Verifier(None))
    assert found["context_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["id_context_precision"] == pytest.approx(1 / 3)
    assert found["id_context_recall"] == 1 / 2


def test_a_passage_that_holds_the_reference_counts_though_no_label_names_it() -> None:
    reference = "Use the reverse function to turn lists around."
    found = context.measure(
        sample(["x", "a"], ["b"], [reference, "Something else entirely."], reference), Verifier(None)
    )
    assert found["context_precision"] == 0
    assert found["context_precision_by_reference"] == 1


def test_answers_that_did_not_come_are_counted_and_not_imputed() -> None:
    found = context.score([sample(["a"], ["a"], ["-"]), sample(["x"], ["a"], ["-"])], failed=3, seed=1)
    precision = found["context_precision"]
    assert (precision["value"], precision["n"], precision["n_scored"], precision["n_failed"]) == (0.5, 5, 2, 3)
    assert found["explained"]["without_any_gold_passage"] == 1
    assert found["explained"]["context_precision_where_one_was_found"]["value"] == 1.0


def test_sections_that_the_labels_name_are_found_in_the_corpus(tmp_path: Path) -> None:
    labels, documents = tmp_path / "questions.jsonl", tmp_path / "documents.jsonl"
    places = [{"document": "d", "heading": ["A", "B"]}, {"document": "d", "heading": ["gone"]}]
    labels.write_text(json.dumps({"id": "q", "sections": places}) + "\n")
    sections = [{"heading": ["A"], "text": "one"}, {"heading": ["A", "B"], "text": "two"}]
    documents.write_text(json.dumps({"id": "d", "sections": sections}) + "\n")
    assert context.gold_sections(labels, documents) == {"q": ["two"]}
