"""Two language models as writers: their own markers, and what the service makes of them."""

import json
import re
from typing import Any

import pytest

from capstan.jobs.evaluate import writers
from capstan.jobs.evaluate.asking import Answer
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.verifier import Verifier

STASH = "git stash saves your local modifications away. The entries can be listed with git stash list."
SOURCES = [
    {"id": n, "title": "", "heading": [], "text": text, "document_id": f"d{n}"}
    for n, text in enumerate((STASH, "A pipe is a unidirectional data channel between processes."), 1)
]
CITED = "Git stash saves your local modifications away [1]."
BARE = "Git stash saves your local modifications away."
WRONG = "Bananas are yellow sweet fruit from the tropics [2]."
EXTRACT = "git stash saves your local modifications away."


def answer(written: str | None, *, number: int = 0, condition: Any = "given", mode: str = "extractive") -> Answer:
    """What a service showed as an extract of the first passage, whatever the model wrote."""
    citation = {"id": 1, "start_index": len(EXTRACT) + 1, "end_index": len(EXTRACT) + 4}
    annotations = [{"type": "url_citation", "url_citation": citation}]
    details = {"mode": mode, "sources": SOURCES, **({} if written is None else {"written": written})}
    name = f"q{number}"
    return Answer("k", name, condition, "docs", "?", text=f"{EXTRACT} [1]", annotations=annotations, details=details)


def written_recall(text: str) -> Any:
    seen = writers.as_written(answer(text))
    card, _ = writers.scorecard([seen], {"q0": frozenset({"d1"})}, Verifier(None), seed=1)
    return card["citations"]["recall"]["value"]


@pytest.mark.parametrize(
    ("text", "cited"),
    [("Stash saves it [1].", [1]), ("It does so [1, 2].", [1, 2]), ("See argv[1] and x [2]", [2]), ("Nothing.", [])],
)
def test_the_models_own_markers_are_its_citations(text: str, cited: list[int]) -> None:
    seen = writers.as_written(answer(text))
    assert seen.text == text
    assert [a["url_citation"]["id"] for a in seen.annotations] == cited


def test_the_service_s_extract_does_not_make_the_model_s_text_better() -> None:
    assert written_recall(CITED) == 1
    assert written_recall(BARE) == 0
    assert written_recall(WRONG) == 0


def test_an_abstention_is_the_model_s_own_or_the_service_s() -> None:
    own = writers.as_written(answer("I could not find an answer to this in the documents."))
    service = writers.as_written(answer("", mode="abstained"))
    assert (own.abstained, service.abstained) == (True, True)
    assert not writers.as_written(answer(CITED)).abstained


def test_an_answer_without_the_model_is_a_failure_and_not_a_bad_answer() -> None:
    assert writers.as_written(answer("")).error is not None
    with pytest.raises(EvaluateError, match="trace"):
        writers.as_written(answer(None))


def test_two_writers_differ_as_written_and_not_as_shown() -> None:
    asked = [(n, condition) for n in range(40) for condition in ("given", "withheld")]
    good = [answer(CITED if n % 10 else BARE, number=n, condition=c) for n, c in asked]
    poor = [answer(CITED if n % 4 == 0 else WRONG, number=n, condition=c) for n, c in asked]
    gold = {f"q{n}": frozenset({"d1"}) for n in range(40)}
    found = writers.contest(good, poor, gold, Verifier(None), seed=1)
    own, shown = found["as_written"]["comparison"]["recall"], found["as_shown"]["comparison"]["recall"]
    assert (own["n"], own["a"], own["b"]) == (40, 0.9, 0.25)
    assert own["p"] < 0.001
    assert (shown["difference"], shown["p"]) == (0, 1)
    assert found["as_shown"]["a"]["modes"] == {"extractive": 40}
    assert found["as_written"]["a"]["modes"] == {"generated": 40}
    mirrored = writers.contest(poor, good, gold, Verifier(None), seed=1)["as_written"]["comparison"]["recall"]
    assert (mirrored["difference"], mirrored["p"]) == (-own["difference"], pytest.approx(own["p"], abs=1e-3))
    table = writers.tables(json.loads(json.dumps(found)), ("docs:good", "docs:poor"))
    assert re.search(r"\| docs:good, as the model wrote it \| 1\.000 \| 0\.900 \|", table)
    assert "docs:good - docs:poor" in table


def test_questions_on_which_one_writer_said_nothing_are_left_out() -> None:
    one = [answer(CITED, number=n) for n in range(4)]
    other = [answer("I could not find an answer.", number=n) if n else answer(CITED, number=n) for n in range(4)]
    gold = {f"q{n}": frozenset({"d1"}) for n in range(4)}
    found = writers.contest(one, other, gold, Verifier(None), seed=1)
    assert found["as_written"]["comparison"]["recall"]["n"] == 1
    assert found["as_written"]["b"]["abstention"]["n_abstained"] == 3
