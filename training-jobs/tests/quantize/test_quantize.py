"""What a model is calibrated on, and mistakes in a line. Quantization itself is run by `make bench-llm`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.command import JobError
from capstan.jobs.quantize.awq import GROUP, NOTE, native_checkpoint, note
from capstan.jobs.quantize.texts import of_documents, of_items


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "capstan.jobs.quantize", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_what_is_quantized_already_is_left_alone(tmp_path: Path) -> None:
    target = native_checkpoint(tmp_path, quick=False)
    target.mkdir(parents=True)
    (target / NOTE).write_text(json.dumps({"samples": 32}))
    done = call(CAPSTAN_CACHE_DIR=str(tmp_path), QUICK="")
    assert (done.returncode, done.stdout) == (0, f"quantized before: smollm2-135m-awq-g{GROUP}\n")
    assert note(target) == {"samples": 32}


def test_documents_give_as_many_passages_as_asked_for(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("word " * 4000)
    texts = of_documents(tmp_path, 5, 64)
    assert [len(text) for text in texts] == [512] * 5


def test_an_assistant_needs_all_three_arguments(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text("")
    done = call("--items", str(items), CAPSTAN_CACHE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (2, "error: give all of --model, --items and --to, or none of them\n")


@pytest.mark.parametrize("text", ['{"id": 1}\n', "no json\n"])
def test_a_file_without_items_is_named(tmp_path: Path, text: str) -> None:
    pytest.importorskip("transformers", reason="requirements/reranker.txt is not installed")
    path = tmp_path / "items.jsonl"
    path.write_text(text)
    with pytest.raises(JobError, match="holds no items"):
        of_items(path, tmp_path, 4)


def test_items_are_calibrated_on_in_the_models_own_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="requirements/reranker.txt is not installed")

    class Tokenizer:
        def apply_chat_template(self, chat: list[dict[str, str]], *, tokenize: bool) -> str:
            assert not tokenize
            return "".join(f"<{message['role']}>{message['content']}" for message in chat)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: Tokenizer())
    lines = [
        json.dumps({"messages": [{"role": "user", "content": f"question {n}"}], "reference": f"answer {n}"})
        for n in range(9)
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(lines) + "\n")
    texts = of_items(path, tmp_path, 4)
    assert len(set(texts)) == 4
    for text in texts:
        number = text[-1]
        assert text == f"<user>question {number}<assistant>answer {number}"
    assert texts == of_items(path, tmp_path, 4)
