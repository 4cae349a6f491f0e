"""Built from a corpus: complete, the same each time, split by source, and nothing held out was trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.data.build import build
from capstan.jobs.assistant.data.plan import DataPlan, Sizes
from capstan.jobs.assistant.data.prompt import ABSTENTION
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.items import KINDS, SPLITS, Item, read_items
from capstan.jobs.pretrain.text import ngram_hashes

NOUNS = (
    "vpc",
    "subnet",
    "volume",
    "snapshot",
    "key pair",
    "route table",
    "network acl",
    "placement group",
    "image",
    "flow log",
)
WORDS = ("lock", "queue", "index", "socket", "page", "mount", "token", "buffer", "signal", "timer", "cache", "cursor")
VERBS = ("Open", "Close", "Read", "Write", "Count", "Check", "Copy", "Sort", "Merge", "Split", "Print", "Remove")
SIZES = Sizes(aws=20, option=30, git=20, sql=20, grounded=20)
PLAN = DataPlan(train=SIZES, validation=SIZES, test=SIZES, held_out=0.3, validated=0.1, near_duplicate=0.9)
GOLD = "python3.11-doc/library/lock"
SECRET = "In Python, how do I open the lock that the secret page of all pages is about at last?"


def document(source: str, name: str, title: str, *sections: tuple[str, str]) -> dict[str, Any]:
    parts = [{"heading": [heading], "text": text} for heading, text in sections]
    return {"id": f"{source}/{name}", "source": source, "title": title, "sections": parts}


def corpus() -> list[dict[str, Any]]:
    pages = []
    for noun in NOUNS:
        dashed = noun.replace(" ", "-")
        text = (
            f"This removes it.\n\n```\naws ec2 describe-{dashed}s --max-results 7 --filters Name={dashed},Values=x\n```"
        )
        pages.append(
            document(
                "awscli", f"ec2/describe-{dashed}s", f"aws ec2 describe-{dashed}s", (f"To describe a {noun}", text)
            )
        )
    for n, word in enumerate(WORDS):
        options = "\n".join(
            f"- --{verb.lower()}-{word}: {verb} the {word} before number {n} is used by it." for verb in VERBS
        )
        pages.append(document("git-doc", f"git-{word}", f"git-{word}(1): About a {word}", ("OPTIONS", options)))
        pages.append(
            document(
                "postgresql-doc-15",
                f"app-{word}",
                f"pg_{word} (Applications)",
                ("Options", options.replace("used", f"{word} used")),
            )
        )
        sql = f"```\nCREATE TABLE {word}_sizes ({word}_name text, {word}_size integer, {word}_made date);\n```"
        pages.append(document("sqlite3-doc", f"lang_{word}", f"SQLite: about {word}", (f"Tables of a {word}", sql)))
        prose = [
            (
                f"{verb}ing the {word}",
                f"{verb} the {word} {n} times and then {verb.lower()} every other {word} that is left. More.",
            )
            for verb in VERBS
        ]
        pages.append(document("python3.11-doc", f"library/{word}", f"{word} — About a {word}", *prose))
    return pages


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("labels")
    rows = [{"id": s, "question": SECRET, "answer": "No.", "documents": [GOLD], "split": s} for s in ("test", "dev")]
    (directory / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def built(directory: Path, labels: Path, pages: list[dict[str, Any]], plan: DataPlan = PLAN) -> dict[str, Any]:
    documents = directory / "documents.jsonl"
    documents.write_text("".join(json.dumps(page) + "\n" for page in pages))
    return build(
        documents, labels, directory / "data", plan, {"corpus": "made up"}, lambda item: len(item.prompt) // 4, print
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, labels: Path) -> Path:
    directory = tmp_path_factory.mktemp("built")
    built(directory, labels, corpus())
    return directory / "data"


def items(data: Path, split: str) -> list[Item]:
    return read_items(data / f"{split}.jsonl")


def test_every_kind_is_in_training_and_in_test(data: Path) -> None:
    for split in ("train", "test"):
        assert {item.kind for item in items(data, split)} == set(KINDS)


def test_every_reference_passes_its_own_check(data: Path) -> None:
    for split in SPLITS:
        assert all(check(item, item.reference).exact for item in items(data, split))


def test_no_source_and_no_id_is_in_two_splits(data: Path) -> None:
    sources = [{item.source for item in items(data, split)} for split in SPLITS]
    assert sum(map(len, sources)) == len(set[str]().union(*sources))
    ids = [item.id for split in SPLITS for item in items(data, split)]
    assert len(set(ids)) == len(ids)


def test_nothing_held_out_shares_thirteen_words_with_training(data: Path) -> None:
    def grams(split: str) -> set[int]:
        return {int(h) for i in items(data, split) for h in ngram_hashes(f"{i.prompt}\n{i.reference}", 13)}

    assert not grams("train") & (grams("test") | grams("validation"))


def test_passages_of_held_out_questions_are_held_out_too(data: Path) -> None:
    def passages(split: str) -> set[str]:
        return {text for item in items(data, split) if item.kind == "grounded" for text in item.check["passages"]}

    assert passages("train")
    assert not passages("train") & passages("test")


def test_an_unanswerable_item_teaches_the_abstention(data: Path) -> None:
    grounded = [item for split in SPLITS for item in items(data, split) if item.kind == "grounded"]
    assert {item.reference for item in grounded if not item.check["answerable"]} == {ABSTENTION}


def test_a_document_that_answers_a_labelled_question_is_left_out(data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["refused"]["documents"] == {"the answer to a labelled question": 1}
    assert "lock — About a lock" not in "".join(
        item.prompt for split in SPLITS for item in items(data, split) if item.kind == "grounded"
    )


def test_the_manifest_counts_what_is_there(data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["corpus"] == "made up"
    for split in SPLITS:
        assert manifest["splits"][split]["items"] == len(items(data, split))
    card = (data / "README.md").read_text()
    assert f"| {' | '.join(f'{len(items(data, s))}' for s in SPLITS)} |" in card


def test_the_same_corpus_makes_the_same_bytes(data: Path, tmp_path: Path, labels: Path) -> None:
    built(tmp_path, labels, corpus())
    for name in (*(f"{split}.jsonl" for split in SPLITS), "manifest.json", "README.md"):
        assert (tmp_path / "data" / name).read_bytes() == (data / name).read_bytes()


def test_a_page_more_changes_no_other_page_s_items(data: Path, tmp_path: Path, labels: Path) -> None:
    options = "- --undo-draft: Undo the draft.\n- --undo-final: Undo the final one of them."
    built(tmp_path, labels, [*corpus(), document("git-doc", "git-undo", "git-undo(1): Undo", ("OPTIONS", options))])
    before = {item.id for split in SPLITS for item in items(data, split) if item.kind == "sql"}
    after = {item.id for split in SPLITS for item in items(tmp_path / "data", split) if item.kind == "sql"}
    assert before == after


def test_an_item_that_is_too_long_is_refused(tmp_path: Path, labels: Path) -> None:
    manifest = built(tmp_path, labels, corpus(), PLAN.model_copy(update={"max_tokens": 64}))
    assert manifest["refused"]["grounded"]["more tokens than an item may have"] > 0
    assert not [item for item in items(tmp_path / "data", "train") if len(item.prompt) // 4 > 64]


def test_items_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(AssistantError, match="run the data command first"):
        read_items(tmp_path / "train.jsonl")
    (tmp_path / "train.jsonl").write_text('{"id": "1"}\n')
    with pytest.raises(AssistantError, match="holds no items"):
        read_items(tmp_path / "train.jsonl")
