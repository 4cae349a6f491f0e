"""Evaluation on the harness: a model that knows scores better than one that guesses."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="requirements/pretrain.txt is not installed")

from lm_eval.api.model import LM

from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.evaluate import evaluate, exported_model, ngram_models, task_configs
from capstan.jobs.pretrain.pack import Rows, bytes_per_token

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
TEXTS = ["The lock is taken by the queue.\n", "A page is read from the table.\n"]


class Oracle(LM):
    """Gives a byte one bit, or what the right answer needs."""

    def __init__(self, right: set[tuple[str, str]]) -> None:
        super().__init__()
        self._right = right

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return [(0.0 if request.args in self._right else -50.0, False) for request in requests]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        return [-math.log(2) * len(request.args[0].encode()) for request in requests]

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError


@pytest.fixture
def configs(tmp_path: Path) -> list[dict[str, Any]]:
    cloze = {"context": "## Locks\n\nThe lock is", "choices": ["taken", "paged", "mapped", "sorted"], "answer": 0}
    contexts = ["## Pages\n\n", "## Locks\n\n", "## Queues\n\n", "## Maps\n\n"]
    section = {"passage": "The lock is taken.", "contexts": contexts, "answer": 1}
    for name, item in (("cloze", cloze), ("section", section)):
        (tmp_path / f"{name}.jsonl").write_text((json.dumps(item) + "\n") * 3)
    return task_configs([{"text": text} for text in TEXTS], tmp_path)


def test_the_right_answers_score_and_a_bit_a_byte_is_one(configs: list[dict[str, Any]]) -> None:
    right = {("## Locks\n\nThe lock is", " taken"), ("## Locks\n\n", "The lock is taken.")}
    scores = evaluate(Oracle(right), configs, None, 3.0)
    assert scores["bits_per_byte"] == pytest.approx(1)
    assert scores["perplexity"] == pytest.approx(8)  # three bytes a token, a bit each
    for task in ("cloze", "section"):
        assert (scores[task]["accuracy"], scores[task]["items"], scores[task]["chance"]) == (1, 3, 0.25)
    wrong = evaluate(
        Oracle({("## Locks\n\nThe lock is", " paged"), ("## Maps\n\n", "The lock is taken.")}), configs, None, None
    )
    assert wrong["cloze"]["accuracy"] == wrong["section"]["accuracy"] == 0
    assert "perplexity" not in wrong


def test_trigrams_beat_unigrams_and_ours_is_scored_as_the_loop_scores_it(
    configs: list[dict[str, Any]], rows_dir: Path, tokenizer: Any, texts: list[str], tmp_path: Path
) -> None:
    import torch

    from capstan.jobs.pretrain.export import export
    from capstan.jobs.pretrain.model import Decoder, Shape

    held_out = [{"text": text} for text in texts[100:]]
    configs = [task_configs(held_out, tmp_path)[0], *configs[1:]]
    compression = bytes_per_token(Rows(rows_dir / "validation.bin"))
    models = ngram_models(Rows(rows_dir / "train.bin"), tokenizer)
    scores = {name: evaluate(model, configs, None, compression) for name, model in models.items()}
    assert scores["trigram"]["bits_per_byte"] < scores["unigram"]["bits_per_byte"] < math.log2(320)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    untrained = Decoder(Shape(320, 1024, 2))  # every token has the same probability
    tokens = torch.randint(0, 320, (2, 24))
    export(untrained, tmp_path / "tokenizer.json", tokens, tmp_path / "artifact", lambda _: ("", {}))
    ours = evaluate(exported_model(tmp_path / "artifact", "cpu"), configs, None, compression)
    assert ours["perplexity"] == pytest.approx(320, rel=0.01)


def test_missing_items_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="run data first"):
        task_configs([], tmp_path)
