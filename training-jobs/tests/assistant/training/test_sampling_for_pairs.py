"""Answers for preferences: asked of training prompts alone, once, with what the recipe says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_assistant import items

from capstan.jobs.assistant import preferences
from capstan.jobs.assistant.recipe import Recipe, Sampling
from capstan.jobs.assistant.sampling import Worker


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    directory = tmp_path / "sft"
    directory.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (directory / name).write_text("{}")
    return directory


class Model:
    """Stands in for a server; EVAL's tests cover the requests themselves."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.breaks_after = breaks_after

    def __call__(self, url: str, model: str, some: Sequence[Any], **options: Any) -> Iterator[tuple[str, list[str]]]:
        self.options.append({"url": url, "model": model, **options})
        for item in some:
            if len(self.asked) == self.breaks_after:
                raise KeyboardInterrupt
            self.asked.append(item.id)
            yield item.id, [f"answer {n}" for n in range(options["n"])]


def merge(to: Path) -> None:
    """Stands in for the weights with the adapter in them."""
    (to / "config.json").write_text("merged")


def sample(
    recipe: Recipe, adapter: Path, tmp_path: Path, count: int = 6, url: str | None = "http://here"
) -> dict[str, list[str]]:
    places: dict[str, Any] = {"merge": merge, "log": tmp_path / "log", "url": url, "key": "secret"}
    return preferences.sample(recipe, items(count), adapter, tmp_path / "samples.jsonl", **places)


def test_an_interrupted_sampling_goes_on(
    recipe: Recipe, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Model(breaks_after=4)
    monkeypatch.setattr(preferences, "complete", first)
    with pytest.raises(KeyboardInterrupt):
        sample(recipe, adapter, tmp_path)
    second = Model()
    monkeypatch.setattr(preferences, "complete", second)
    found = sample(recipe, adapter, tmp_path)
    assert [len(first.asked), len(second.asked)] == [4, 2]
    assert {name: len(texts) for name, texts in found.items()} == {item.id: 4 for item in items(6)}
    asked = second.options[0]
    assert (asked["model"], asked["temperature"], asked["n"], asked["key"]) == ("sft", 0.8, 4, "secret")


def test_another_adapter_is_asked_anew(
    recipe: Recipe, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    monkeypatch.setattr(preferences, "complete", model)
    sample(recipe, adapter, tmp_path)
    (adapter / "adapter_model.safetensors").write_text("other")
    sample(recipe, adapter, tmp_path)
    assert len(model.asked) == 12


def test_without_a_server_a_worker_serves_the_merged_weights_which_are_gone_afterwards(
    recipe: Recipe, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Path, str]] = []

    @contextmanager
    def worker(model: str, adapters: Any, *, log: Path, served_name: str) -> Iterator[Worker]:
        weights = Path(model.removeprefix("file:"))
        started.append((weights, served_name))
        assert ((weights / "config.json").read_text(), adapters) == ("merged", {})
        yield Worker("http://there", 1)

    model = Model()
    monkeypatch.setattr(preferences, "complete", model)
    monkeypatch.setattr(preferences, "worker", worker)
    sample(recipe, adapter, tmp_path, url=None)
    assert [(options["url"], options["model"]) for options in model.options] == [("http://there", "sft")]
    [(weights, name)] = started
    assert (name, weights.exists()) == ("sft", False)
    sample(recipe, adapter, tmp_path, url=None)
    assert len(started) == 1  # all is known: nothing is merged or started


def test_prompts_are_drawn_from_all_and_the_same_again() -> None:
    some = preferences.asked(items(24), Sampling(prompts=10), seed=3)
    assert some == preferences.asked(items(24), Sampling(prompts=10), seed=3)
    assert len({item.id for item in some}) == 10
    assert [item.id for item in some] != [item.id for item in items(10)]
    assert len(preferences.asked(items(5), Sampling(prompts=10), seed=3)) == 5
