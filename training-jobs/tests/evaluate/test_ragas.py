import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.evaluate import answer_card, ragas_card
from capstan.jobs.evaluate.ragas_card import sanity_samples, verdict_on_judge
from capstan.jobs.evaluate.ragas_rows import NotApplicable, Row, Scores, reason, run, summary


def sample(key: str, *, abstained: bool = False, **more: Any) -> dict[str, Any]:
    return {"key": key, "abstained": abstained, "reference": f"Reference of {key}.", "question": f"{key}?", **more}


async def value(one: Any) -> float:
    return float(one["value"])


async def broken(one: Any) -> float:
    raise ValueError("1 validation error for Output: Invalid JSON")


async def score(
    tmp_path: Path, metrics: dict[str, Any], samples: list[dict[str, Any]], **options: Any
) -> dict[str, Any]:
    rows = Scores(tmp_path / "rows.jsonl", **options)
    await run(metrics, samples, rows, workers=2, timeout_s=0.05)
    return summary(metrics, samples, rows, seed=1)


async def test_nothing_is_imputed(tmp_path: Path) -> None:
    async def metric(one: Any) -> float:
        match one["key"]:
            case "nothing to measure":
                raise NotApplicable
            case "nan":
                return math.nan
            case "slow":
                await asyncio.Event().wait()
            case "broken":
                return await broken(one)
        return float(one["value"])

    samples = [sample("a", value=0.5), sample("b", value=1), sample("gone", abstained=True)]
    samples += [sample(key) for key in ("nothing to measure", "nan", "slow", "broken")]
    found = (await score(tmp_path, {"faithfulness": metric}, samples))["faithfulness"]
    assert found["value"] == 0.75
    counts = {name: found[name] for name in ("n", "n_scored", "n_failed", "n_abstained", "n_not_applicable")}
    assert counts == {"n": 7, "n_scored": 2, "n_failed": 3, "n_abstained": 1, "n_not_applicable": 1}
    assert set(found["failures"]) == {
        "not a number",
        "timeout",
        "the judge's answer is not the JSON that was asked for",
    }


async def test_evidence_of_an_answer_that_was_not_given_is_still_measured(tmp_path: Path) -> None:
    samples = [sample("a", value=1, abstained=True)]
    found = await score(tmp_path, {"context_recall": value, "faithfulness": value}, samples)
    assert found["context_recall"]["n_scored"] == 1
    assert found["faithfulness"]["n_scored"] == 0
    assert found["faithfulness"]["n_abstained"] == 1


async def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    await score(tmp_path, {"m": value}, [sample("a", value=1)])
    asked: list[str] = []

    async def noting(one: Any) -> float:
        asked.append(one["key"])
        return 0.0

    found = await score(tmp_path, {"m": noting}, [sample("a"), sample("b")])
    assert asked == ["b"]
    assert found["m"]["value"] == 0.5


async def test_failed_rows_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    await score(tmp_path, {"m": broken}, [sample("a", value=1)])
    assert (await score(tmp_path, {"m": value}, [sample("a", value=1)]))["m"]["n_failed"] == 1
    assert (await score(tmp_path, {"m": value}, [sample("a", value=1)], again=True))["m"]["n_failed"] == 0


@pytest.mark.parametrize(
    ("values", "trusted", "auroc"),
    [
        ([(0.9, 0.1)] * 6, True, 1.0),
        ([(0.5, 0.5)] * 6, False, 0.5),
        ([(0.9, 0.1)] * 3 + [(None, None)] * 3, False, 1.0),  # half of it failed
        ([(None, None)] * 6, False, None),
    ],
)
def test_a_judge_has_to_tell_faithful_from_unfaithful(
    tmp_path: Path, values: list[tuple[float | None, float | None]], trusted: bool, auroc: float | None
) -> None:
    known = sanity_samples([sample(f"s{n}") for n in range(len(values))], 99, seed=1)
    rows = Scores(tmp_path / "rows.jsonl")
    places = iter(values)
    for faithful, unfaithful in zip(known[::2], known[1::2], strict=True):
        high, low = next(places)
        for one, score_ in ((faithful, high), (unfaithful, low)):
            rows.add("faithfulness", one["key"], Row(score_, None if score_ is not None else "timeout"))
    found = verdict_on_judge(known, rows)
    assert found["trusted"] is trusted
    assert found["auroc"] == auroc


def test_the_known_pairs_are_an_answer_with_its_own_text_and_with_anothers() -> None:
    known = sanity_samples([sample(f"s{n}") for n in range(5)], 3, seed=2)
    assert len(known) == 6
    for one in known:
        assert (one["contexts"] == [one["response"]]) is one["faithful"]


def test_a_weak_judge_gives_no_headline() -> None:
    metric = {"value": 0.9, "ci95": None, "n": 1, "n_scored": 1, "n_failed": 0, "n_abstained": 0, "n_not_applicable": 0}
    sanity = {"trusted": False, "accuracy": 0.5, "auroc": 0.5, "n": 20, "n_failed": 9, "bar": "0.8"}
    judge = {"model": "tiny", "questions": 1, "of": 9, "sanity": sanity, "metrics": {"faithfulness": metric}}
    card = {"ragas": "0.4.3", "without_judge": {"id_context_recall": metric}, "judge": judge}
    assert answer_card.ragas_keys(card)["headline"] is None
    table = answer_card._ragas(card)
    assert "too weak to be trusted" in table
    assert "Judge: tiny" in table
    judge["sanity"] = {**sanity, "trusted": True}
    assert answer_card.ragas_keys(card)["headline"] == {"faithfulness": 0.9}


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("This model's maximum context length is 2048 tokens", "the prompt is longer than the judge's context"),
        ("2 validation errors for NLI: 1 validation error", "the judge's answer is not the JSON that was asked for"),
        ("boom", "ValueError"),
    ],
)
def test_failures_are_named(message: str, named: str) -> None:
    assert reason(ValueError(message)) == named


def test_a_missing_file_of_samples_is_a_line_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--rows", str(tmp_path / "r"), "--out", str(tmp_path / "o")]
    monkeypatch.setattr("sys.argv", ["ragas_card", "--samples", str(tmp_path / "none.jsonl"), *out])
    with pytest.raises(SystemExit):
        ragas_card.main()
    assert "answer_quality score" in capsys.readouterr().err


def test_rows_survive_as_json(tmp_path: Path) -> None:
    Scores(tmp_path / "rows.jsonl").add("m", "k", Row(0.25))
    assert json.loads((tmp_path / "rows.jsonl").read_text())["value"] == 0.25
    assert Scores(tmp_path / "rows.jsonl").get("m", "k") == Row(0.25)
