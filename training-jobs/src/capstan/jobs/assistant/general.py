"""Has the model forgotten anything? The pretraining job's held-out documents and tasks, before and after.

Fine-tuning has read other parts of the same corpus: held-out documents of which it has seen more than a tenth of the
13-word sequences are left out, and so is every task item of which it has seen one.
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capstan.jobs.assistant.answers import Arm
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.items import Item
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.rows import Rows, key_of
from capstan.jobs.pretrain.text import ngram_hashes

_WORDS, _SEEN = 13, 0.1
_TASKS = ("cloze", "section")
Records = list[dict[str, Any]]


def held_out(splits: Path, trained_on: Iterable[Item]) -> dict[str, Records]:
    """`documents`, `cloze` and `section` of the pretraining job's splits that fine-tuning has not seen.

    Raises `AssistantError` if there are no splits.
    """
    from capstan.jobs.pretrain.data import MANIFEST, read_split

    if not (splits / MANIFEST).is_file():
        raise AssistantError(f"{splits} holds no splits; run the pretrain job's data command, or give --held-out")
    seen = _seen(trained_on)
    found = {"documents": [d for d in read_split(splits, "validation") if _share(d["text"], seen) <= _SEEN]}
    for name in _TASKS:
        lines = (splits / "tasks" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        found[name] = [item for item in map(json.loads, lines) if not _share(item["passage"], seen)]
    return found


def drawn(found: Mapping[str, Records], plan: Evaluation, seed: int) -> dict[str, Records]:
    """As many of each as the plan has time for."""
    most = {"documents": plan.general_documents, **dict.fromkeys(_TASKS, plan.general_items)}
    draw = random.Random(seed)  # noqa: S311
    return {name: draw.sample(records, min(most[name], len(records))) for name, records in found.items()}


def forgetting(
    base: str, arms: Sequence[Arm], questions: Mapping[str, Records], out: Path, cache: Path
) -> dict[str, dict[str, Any]]:
    """Bits per byte and task accuracies of the base model and of each arm's weights merged into it.

    What was measured is kept in `out`. Base and arms are computed in 32 bits.
    """
    from capstan.jobs.pretrain.evaluate import evaluate, public_model, task_configs
    from capstan.jobs.pretrain.train import use_all_cores

    use_all_cores()
    rows = Rows(out / "scores.jsonl")
    found: dict[str, dict[str, Any]] = {}
    for arm in arms:
        key = key_of(base, arm.weights, questions)
        if rows.get(key) is None:
            Steps().say(f"general ability of {arm.name}")
            for name in _TASKS:
                (out / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in questions[name]))
            model = public_model(base, cache, _device())
            model = _adapted(model, arm.adapter) if arm.adapter else model
            rows.put(key, evaluate(model, task_configs(questions["documents"], out), None, None))
        found[arm.name] = dict(rows.get(key) or {})
    return found


def _adapted(model: Any, adapter: Path) -> Any:
    """The harness's model with an adapter merged into its weights."""
    from lm_eval.models.huggingface import HFLM
    from peft import PeftModel

    merged = PeftModel.from_pretrained(model.model, str(adapter)).merge_and_unload()
    return HFLM(
        pretrained=merged,
        tokenizer=model.tokenizer,
        device=_device(),
        batch_size=model.batch_size,
        max_length=model.max_length,
    )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _seen(items: Iterable[Item]) -> NDArray[np.uint64]:
    """Hashes of all 13-word sequences in instructions and references, sorted."""
    texts = ("\n".join([*(message["content"] for message in item.messages), item.reference]) for item in items)
    return np.unique(np.concatenate([np.empty(0, np.uint64), *(ngram_hashes(text, _WORDS) for text in texts)]))


def _share(text: str, seen: NDArray[np.uint64]) -> float:
    """Share of a text's 13-word sequences that were seen; 0 of a shorter text."""
    own = ngram_hashes(text, _WORDS)
    return float(np.isin(own, seen).mean()) if len(own) else 0.0
