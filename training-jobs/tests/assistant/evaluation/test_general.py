"""What a model has forgotten: on documents that it has not been trained on, with its adapter merged."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="training-jobs/requirements/pretrain.txt is not installed")
pytest.importorskip("peft", reason="training-jobs/requirements/assistant.txt is not installed")

from capstan.jobs.assistant.answers import Arm
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.general import drawn, forgetting, held_out
from capstan.jobs.assistant.items import Item
from capstan.jobs.pretrain.tokenizer import save, train_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
SEEN = "The lock is taken by the queue before any page of the table is read or written again."
FRESH = "A signal interrupts the call, which returns with an error unless the handler asks for a restart of it."


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """As the pretraining job leaves them: a document and a passage that fine-tuning has read, and others."""
    directory = tmp_path / "splits"
    for name in ("validation", "tasks"):
        (directory / name).mkdir(parents=True)
    (directory / "manifest.json").write_text("{}")
    with gzip.open(directory / "validation/00000.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps({"id": name, "text": text}) + "\n" for name, text in (("a", SEEN), ("b", FRESH)))
    cloze = {"context": "A signal interrupts the", "choices": ["call", "lock", "page", "queue"], "answer": 0}
    section = {"contexts": ["## Locks\n\n", "## Pages\n\n", "## Calls\n\n", "## Maps\n\n"], "answer": 2}
    for name, item in (("cloze", cloze), ("section", section)):
        rows = [{**item, "passage": passage} for passage in (SEEN, FRESH, FRESH)]
        (directory / f"tasks/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


TRAINED_ON = [Item("i", "grounded", "s", ({"role": "user", "content": SEEN},), "The queue [1].", {})]


def test_what_fine_tuning_has_read_is_left_out(splits: Path) -> None:
    found = held_out(splits, TRAINED_ON)
    assert [document["id"] for document in found["documents"]] == ["b"]
    assert (len(found["cloze"]), len(found["section"])) == (2, 2)
    assert [len(records) for records in held_out(splits, []).values()] == [2, 3, 3]


def test_as_many_are_drawn_as_there_is_time_for(splits: Path) -> None:
    plan = Evaluation(general_documents=1, general_items=2)
    found = drawn(held_out(splits, []), plan, seed=1)
    assert [len(records) for records in found.values()] == [1, 2, 2]
    assert found == drawn(held_out(splits, []), plan, seed=1)


def test_without_splits_it_is_said_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(AssistantError, match=r"pretrain job's data command, or give --held-out"):
        held_out(tmp_path, [])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny checkpoint of random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    save(train_tokenizer([SEEN, FRESH] * 20, 300), tmp_path / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    tokenizer.eos_token = tokenizer.bos_token = tokenizer.convert_ids_to_tokens(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, **sizes))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A LoRA adapter that changes much."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "o_proj"])
    )
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_" in name:
                weights.normal_()
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_base_and_adapter_are_scored_on_the_same_questions_once(
    splits: Path, base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "general").mkdir()
    questions = drawn(held_out(splits, TRAINED_ON), Evaluation(), seed=1)
    arms = [Arm("base", "base"), Arm("sft", "hash", adapter)]
    given: tuple[Any, ...] = (f"file:{base}", arms, questions, tmp_path / "general", tmp_path)
    scores = forgetting(*given)
    assert set(scores) == {"base", "sft"}
    assert scores["base"]["bits_per_byte"] != scores["sft"]["bits_per_byte"]
    assert scores["base"]["cloze"]["items"] == 2
    monkeypatch.setattr("capstan.jobs.pretrain.evaluate.public_model", None)  # what is kept needs no model
    assert forgetting(*given) == scores
