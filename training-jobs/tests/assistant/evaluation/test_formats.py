"""One model in several formats: scores, times, sizes."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.formats import Format, measure, memory_mb
from capstan.jobs.assistant.items import read_items
from capstan.jobs.assistant.tables import tables


@pytest.mark.parametrize(
    ("text", "reference"),
    [("awq=file:/run/awq", "file:/run/awq"), ("gpu=https://host/v1#m", "https://host/v1#m"), ("x=hf:a/b", "hf:a/b")],
)
def test_a_format_is_named(text: str, reference: str) -> None:
    assert Format.parse(text) == Format(text.partition("=")[0], reference)


@pytest.mark.parametrize(
    ("text", "says"), [("awq", "NAME=REFERENCE"), ("=x", "NAME="), ("a=http://host", "which model")]
)
def test_a_mistaken_format_is_said(text: str, says: str) -> None:
    with pytest.raises(AssistantError, match=says):
        Format.parse(text)


def test_formats_are_held_against_the_first_on_the_same_items(server: Any, run_directory: Path) -> None:
    """The clock ticks a millisecond whenever it is read."""
    items = read_items(run_directory / "data/test.jsonl")
    right = {item.prompt: item.reference for item in items}

    def say(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        answer = right[asked] if body["model"] == "whole" or len(asked) % 2 else "--wrong"
        return f"{answer} and more" if body.get("stream") else answer

    server.say = say
    formats = [Format.parse(f"{name}={server.url}/v1#{name}") for name in ("whole", "small")]
    ticks = itertools.count()
    options: dict[str, Any] = {"out": run_directory, "cache": run_directory, "seed": 1}
    plan = Evaluation(timed_items=3)
    found = measure(formats, items, plan, now=lambda: next(ticks) / 1000, **options)
    whole, small = found["formats"]["whole"], found["formats"]["small"]
    assert (whole["pass_rate"], whole["ttft_p50_ms"], whole["tpot_p50_ms"]) == (1, 1, 1)
    assert whole["answers_s"] == pytest.approx(60 / 0.001)
    assert whole["memory_mb"] is whole["weights_mb"] is whole["computed_in"] is None
    step = found["steps"]["small over whole"]
    assert step["only_first"] == 0
    assert step["only_second"] == 60 - round(60 * small["pass_rate"]) > 0
    assert sum(bool(body.get("stream")) for body in server.bodies) == 2 * 4
    table = tables({"formats": found})["assistant-formats"]
    assert "| whole | – | 1.000 (0.940 to 1.000) | – | – | 1 | 1.0 |" in table


def test_memory_is_that_of_a_process() -> None:
    assert 10 < memory_mb(os.getpid()) < 10_000
