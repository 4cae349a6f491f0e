"""Evaluation on lm-evaluation-harness: held-out documents, and two downstream tasks, for any model and for n-grams."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer

from capstan.common.models import ModelRef
from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.ngrams import Trigram, Unigram
from capstan.jobs.pretrain.pack import PAD, Rows
from capstan.jobs.pretrain.tasks import CHOICES
from capstan.jobs.pretrain.tokenizer import BOUNDARY_ID

HELD_OUT, CLOZE, SECTION = "capstan_held_out", "capstan_cloze", "capstan_section"


def task_configs(validation: Iterable[dict[str, Any]], tasks: Path) -> list[dict[str, Any]]:
    """The harness's configurations of the three tasks."""

    def config(name: str, items: Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        rows = Dataset.from_list(list(items))
        return {"task": name, "custom_dataset": lambda **_: {"test": rows}, "test_split": "test", **fields}

    def read(name: str) -> list[dict[str, Any]]:
        path = tasks / f"{name}.jsonl"
        if not path.is_file():
            raise PretrainError(f"{path} is missing; run data first")
        return [json.loads(line) for line in path.read_text().splitlines()]

    choice = {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}]}
    rolling = {"output_type": "loglikelihood_rolling", "metric_list": [{"metric": "bits_per_byte"}]}
    texts = [{"text": document["text"]} for document in validation]
    return [
        config(HELD_OUT, texts, doc_to_text="", doc_to_target=lambda item: item["text"], **rolling),
        config(
            CLOZE,
            read("cloze"),
            doc_to_text=lambda item: item["context"],
            doc_to_target=lambda item: item["answer"],
            doc_to_choice=lambda item: item["choices"],
            **choice,
        ),
        config(
            SECTION,
            read("section"),
            doc_to_text=lambda item: item["answer"],  # a number: each choice is a context, the passage follows it
            doc_to_target=lambda item: item["passage"],
            doc_to_choice=lambda item: item["contexts"],
            target_delimiter="",
            **choice,
        ),
    ]


class NGramLM(TemplateLM):  # type: ignore[misc]
    """An n-gram model as the harness asks one."""

    def __init__(self, tokenizer: Tokenizer, counts: Unigram | Trigram) -> None:
        super().__init__()
        self._tokenizer, self._counts = tokenizer, counts

    @property
    def eot_token_id(self) -> int:
        """The token before a text."""
        return BOUNDARY_ID

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text behind the boundary."""
        return list(self._tokenizer.encode(string, add_special_tokens=add_special_tokens is not False).ids)

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        return [(self._sum([*before, *after], len(after)), False) for _, before, after in requests]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Nats of whole texts."""
        texts = [self.tok_encode(request.args[0]) for request in requests]
        return [self._sum(tokens, len(tokens) - 1) for tokens in texts]

    def _sum(self, tokens: list[int], last: int) -> float:
        return float(self._counts.log_probabilities(np.array(tokens, np.uint64))[-last:].sum())

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """No task generates."""
        raise NotImplementedError


def ngram_models(rows: Rows, tokenizer: Tokenizer) -> dict[str, NGramLM]:
    """Unigram and trigram of the packed training rows."""
    stream = rows.take(np.arange(len(rows))).numpy().astype(np.uint64).ravel()
    stream, vocabulary = stream[stream != PAD], tokenizer.get_vocab_size()
    return {
        "unigram": NGramLM(tokenizer, Unigram(stream, vocabulary)),
        "trigram": NGramLM(tokenizer, Trigram(stream, vocabulary)),
    }


class ExportedLM(HFLM):  # type: ignore[misc]
    """Our own artifact: a boundary before every text, and where the harness puts one itself, no second."""

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Nats of whole texts."""
        self.add_bos_token = False
        try:
            return list(super().loglikelihood_rolling(requests, disable_tqdm))
        finally:
            self.add_bos_token = True


def exported_model(directory: Path, device: str) -> HFLM:
    """The exported checkpoint in `directory`."""
    return ExportedLM(pretrained=str(directory), device=device, dtype="float32", batch_size=8, add_bos_token=True)


def public_model(reference: str, cache: Path, device: str) -> HFLM:
    """A public model, from a checkpoint or from the one GGUF file in its directory."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = ModelRef.parse(reference).resolve(cache)
    files = [] if (place / "config.json").is_file() else sorted(place.glob("*.gguf"))[:1]
    more = {"gguf_file": files[0].name} if files else {}
    model = AutoModelForCausalLM.from_pretrained(place, dtype="float32", **more)
    tokenizer = AutoTokenizer.from_pretrained(place, **more)
    return HFLM(pretrained=model, tokenizer=tokenizer, device=device, batch_size=4, max_length=2048)


def evaluate(
    model: Any, configs: list[dict[str, Any]], limit: int | None, bytes_per_token: float | None
) -> dict[str, Any]:
    """Bits per byte on held-out documents, and accuracies with standard errors and chance.

    With the `bytes_per_token` of the model's tokenizer, perplexity per token as well.
    """
    found = simple_evaluate(model=model, tasks=configs, limit=limit, bootstrap_iters=1000, log_samples=False)
    results = found["results"]
    bpb = results[HELD_OUT]["bits_per_byte,none"]
    scores: dict[str, Any] = {"bits_per_byte": round(bpb, 4)}
    if bytes_per_token:
        scores["perplexity"] = round(2 ** (bpb * bytes_per_token), 3)
    for name in (CLOZE, SECTION):
        task = results[name]
        scores[name.removeprefix("capstan_")] = {
            "accuracy": round(task["acc,none"], 4),
            "standard_error": round(float(task["acc_stderr,none"]), 4),
            "items": found["n-samples"][name]["effective"],
            "chance": 1 / CHOICES,
        }
    return scores
