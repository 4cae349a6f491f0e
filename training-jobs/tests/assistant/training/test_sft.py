"""SFT on a tiny Llama: it learns, stops when asked, goes on to the same losses, and exports what was trained."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import load_file
from tiny_assistant import items

from capstan.jobs.assistant import artifact
from capstan.jobs.assistant.base import adapted, answer, chat_ids, counter, model_of, read_tokenizer
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.order import training_order
from capstan.jobs.assistant.recipe import Recipe
from capstan.jobs.assistant.sft import fine_tune
from capstan.jobs.assistant.training import Point, Run, last_checkpoint, summary

pytestmark = pytest.mark.filterwarnings("ignore")


def train(
    recipe: Recipe, tiny: Path, out: Path, *, held_out: Sequence[Item] = tuple(items(30)[24:]), **options: Any
) -> tuple[Any, list[Point]] | None:
    run = Run("sft", out, "a" * 20, **{"say": lambda _: None, **options})
    return fine_tune(recipe, model_of(recipe, out), read_tokenizer(tiny, "tiny"), (items(), held_out), run)


def after(steps: int) -> Callable[[], bool]:
    """Asks to stop after so many steps."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= steps


def losses(points: list[Point]) -> list[float]:
    return [point["loss"] for point in points if "loss" in point]


def test_it_learns_and_says_what_it_did(recipe: Recipe, tiny: Path, tmp_path: Path) -> None:
    done = train(recipe, tiny, tmp_path)
    assert done is not None
    _, points = done
    said = summary(points)
    assert said["steps"] == 8
    assert losses(points)[-1] < losses(points)[0]
    assert said["loss"] < losses(points)[0]
    assert said["validation_loss"] > 0
    assert said["tokens"] > 8 * 6 * 10


@pytest.mark.timeout(400)
def test_compiled_blocks_learn_the_same(recipe: Recipe, tiny: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    said: list[str] = []
    plain = train(recipe, tiny, tmp_path / "plain", held_out=())
    compiling = recipe.model_copy(update={"compile": True})
    compiled = train(compiling, tiny, tmp_path / "compiled", held_out=(), say=said.append)
    assert plain is not None
    assert compiled is not None
    assert losses(compiled[1]) == pytest.approx(losses(plain[1]), abs=1e-3)
    block = compiled[0].get_base_model().model.layers[0]
    assert block._compiled_call_impl is not None
    assert "not compiled" not in "".join(said)


def test_without_a_compiler_it_says_so_and_trains(
    recipe: Recipe, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    said: list[str] = []
    done = train(recipe.model_copy(update={"compile": True}), tiny, tmp_path, say=said.append)
    assert done is not None
    assert "no C++ compiler (no-such-compiler)" in said[0]
    assert done[0].get_base_model().model.layers[0]._compiled_call_impl is None


@pytest.mark.parametrize("stop", [2, 5], ids=["in the first epoch", "in the second"])
def test_stopped_and_started_again_it_goes_on_to_the_same_losses(
    recipe: Recipe, tiny: Path, tmp_path: Path, stop: int
) -> None:
    whole = train(recipe, tiny, tmp_path / "whole")
    assert train(recipe, tiny, tmp_path / "parts", stop=after(stop)) is None
    assert last_checkpoint(tmp_path / "parts" / ("a" * 12)).name == f"checkpoint-{stop}"  # type: ignore[union-attr]
    resumed = train(recipe, tiny, tmp_path / "parts")
    assert whole is not None
    assert resumed is not None
    assert losses(resumed[1]) == losses(whole[1])
    assert summary(resumed[1])["tokens"] == summary(whole[1])["tokens"]
    for ours, theirs in zip(resumed[0].parameters(), whole[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_half_a_checkpoint_is_no_checkpoint(recipe: Recipe, tiny: Path, tmp_path: Path) -> None:
    train(recipe, tiny, tmp_path, stop=after(4))
    directory = tmp_path / ("a" * 12)
    torn = directory / "checkpoint-9"
    torn.mkdir()
    (torn / "adapter_config.json").write_text("{")
    assert last_checkpoint(directory) == directory / "checkpoint-4"
    assert not torn.exists()


def test_the_loss_is_that_of_the_answers_tokens(recipe: Recipe, tiny: Path, tmp_path: Path) -> None:
    done = train(recipe, tiny, tmp_path)
    tokenizer, model = read_tokenizer(tiny, "tiny"), model_of(recipe, tmp_path)
    lengths = [*map(counter(tokenizer), items())]
    first = training_order(lengths, batch=6, epochs=2, seed=recipe.seed)[:6]
    total, count = 0.0, 0
    for item in (items()[row] for row in first):
        prompt = tokenizer.apply_chat_template(list(item.messages), add_generation_prompt=True, return_dict=False)
        whole = torch.tensor([chat_ids(tokenizer, [*item.messages, answer(item.reference)])])
        with torch.no_grad():
            logits = model(whole).logits[0, len(prompt) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, whole[0, len(prompt) :], reduction="sum").item()
        count += whole.shape[1] - len(prompt)
    assert done is not None
    assert losses(done[1])[0] == pytest.approx(total / count, rel=1e-3)


def test_the_exported_adapter_is_what_was_trained(recipe: Recipe, tiny: Path, tmp_path: Path) -> None:
    done = train(recipe, tiny, tmp_path / "run")
    assert done is not None
    model, _ = done
    target = tmp_path / "adapters" / "sft"
    artifact.write(
        target, lambda draft: artifact.save_adapter(model, recipe.base, draft), "# card\n", {"made_from": "x"}
    )
    config = json.loads((target / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == recipe.base
    assert config["r"] == 4
    trained = load_file(target / "adapter_model.safetensors")
    assert len(trained) == 2 * 7 * 2, "A and B of seven linear layers in each of two blocks"
    assert {str(weights.dtype) for weights in trained.values()} == {"torch.bfloat16"}
    manifest = json.loads((target / "manifest.json").read_text())
    assert set(manifest["files"]) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert artifact.is_made_from(target, "x")
    assert not artifact.is_made_from(target, "y")

    read = adapted(model_of(recipe, tmp_path), target)
    ids = torch.tensor([[5, 9, 30, 7]])
    with torch.no_grad():
        assert torch.allclose(read(ids).logits, model.eval()(ids).logits, atol=1e-2)
        merged = tmp_path / "merged"
        tokenizer = read_tokenizer(tiny, "tiny")
        artifact.save_merged(model_of(recipe, tmp_path), target, tokenizer, merged)
        whole = type(model_of(recipe, tmp_path)).from_pretrained(merged)
        assert (merged / "model.safetensors").is_file()
        assert torch.allclose(whole.float()(ids).logits, read(ids).logits, atol=5e-2)
        with read.disable_adapter():
            assert not torch.allclose(whole.float()(ids).logits, read(ids).logits, atol=5e-2)


def test_metrics_are_served_while_it_trains_and_the_port_is_free_afterwards(
    recipe: Recipe, tiny: Path, tmp_path: Path
) -> None:
    import socket
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen: dict[str, float] = {}

    def look() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            for family in text_string_to_metric_families(page.read().decode()):
                for sample in family.samples:
                    if sample.labels.get("job") == "sft":
                        assert sample.labels["run"] == "tiny"
                        seen[sample.name + sample.labels.get("split", "")] = sample.value
        return False

    for out in ("first", "second"):
        assert train(recipe, tiny, tmp_path / out, stop=look, metrics_port=port) is not None
    assert seen["capstan_train_steps_planned"] == 8
    assert seen["capstan_train_step"] == 6, "the step before the last look"
    assert seen["capstan_train_losstrain"] > 0
    assert seen["capstan_train_tokens_total"] > 0
    assert seen["capstan_train_checkpoint_timestamp_seconds"] > 0


def test_nf4_trains_on_a_cpu(recipe: Recipe, tiny: Path, tmp_path: Path) -> None:
    """The base's linear layers are in four bits, and the adapter learns beside them."""
    import bitsandbytes

    quantized = recipe.model_copy(update={"quantized": True})
    model = model_of(quantized, tmp_path)
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 14
    assert {layer.weight.dtype for layer in layers} == {torch.uint8}
    done = train(quantized, tiny, tmp_path, stop=after(3))
    assert done is None
    state = json.loads((tmp_path / ("a" * 12) / "checkpoint-3" / "trainer_state.json").read_text())
    assert [round(value, 1) > 0 for value in losses(state["log_history"])] == [True] * 3


def test_a_signal_only_asks(tmp_path: Path) -> None:
    from capstan.jobs.command import stop_requests

    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert signal.getsignal(signal.SIGTERM) == before
