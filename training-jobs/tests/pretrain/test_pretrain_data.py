"""The data stages: each removes what it is for, keeps it to look at, and counts it."""

import gzip
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("datatrove", reason="requirements/pretrain.txt is not installed")

import numpy as np
from synthetic_corpus import corpus, document, prose

from capstan.jobs.pretrain.data import build, read_split
from capstan.jobs.pretrain.recipe import Data
from capstan.jobs.pretrain.text import as_text, ngram_hashes, seen_in

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
PLAN = Data(validation=0.1, test=0.2, task_items=20)


def removed(out: Path, stage: str) -> set[str]:
    files = sorted((out / "removed" / stage).glob("*.jsonl.gz"))
    return {json.loads(line)["id"] for path in files for line in gzip.open(path, "rt", encoding="utf-8")}


def test_each_stage_removes_what_it_is_for_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "data"
    manifest = build(corpus(tmp_path), out, PLAN, {"command": "test"}, lambda _: None, workers=1)
    assert removed(out, "1_language") == {"foreign"}
    assert {"short", "table"} <= removed(out, "2_quality")
    assert removed(out, "3_repetition") == {"repeats"}
    assert len(removed(out, "4_near_duplicates") & {"near", "page-7"}) == 1
    stages = {stage["stage"]: stage for stage in manifest["stages"]}
    assert stages["Language"]["dropped"] == 1
    assert stages["MinHash stage 4"]["dropped"] == 1
    assert stages["Personal data"] == {
        "stage": "Personal data",
        "documents_with_emails": 1,
        "documents_with_addresses": 1,
    }
    splits = {split: {d["id"]: d for d in read_split(out, split)} for split in ("train", "validation", "test")}
    everything = [name for found in splits.values() for name in found]
    assert len(everything) == len(set(everything))
    assert {split: manifest["splits"][split]["documents"] for split in splits} == {s: len(d) for s, d in splits.items()}
    mail = next(found["mail"] for found in splits.values() if "mail" in found)
    assert "jane.doe" not in mail["text"]
    assert "8.8.8.8" not in mail["text"]
    assert manifest["tasks"]["cloze"] > 0
    assert manifest["tasks"]["section"] > 0
    assert json.loads((out / "manifest.json").read_text())["command"] == "test"


def test_a_held_out_document_that_training_has_seen_is_left_out(tmp_path: Path) -> None:
    """Two pages share their text but for a frame that keeps MinHash from finding it."""
    rng = random.Random(9)
    shared = prose(rng, 6)
    pages = [document(f"frame-{n}", f"{prose(rng, 12)}\n\n{shared}") for n in range(40)]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(page) + "\n" for page in pages))
    build(path, tmp_path / "data", PLAN, {}, lambda _: None, workers=1)
    held_out = {d["id"] for split in ("validation", "test") for d in read_split(tmp_path / "data", split)}
    assert held_out == set()
    assert len(removed(tmp_path / "data", "5_seen_in_training")) > 3


def test_items_have_their_answer_among_four_and_come_from_held_out_documents(tmp_path: Path) -> None:
    out = tmp_path / "data"
    build(corpus(tmp_path), out, PLAN, {}, lambda _: None, workers=1)
    test = {d["id"]: d["text"] for d in read_split(out, "test")}
    items = {name: [json.loads(x) for x in (out / "tasks" / f"{name}.jsonl").open()] for name in ("cloze", "section")}
    for item in items["cloze"]:
        assert item["document"] in test
        assert len(set(item["choices"])) == 4
        assert item["passage"].removesuffix(".").endswith(item["choices"][item["answer"]])
        assert not item["context"].endswith(" ")
    for item in items["section"]:
        assert len(set(item["contexts"])) == 4
        assert item["contexts"][item["answer"]] + item["passage"] in test[item["document"]]
    assert {item["answer"] for item in items["cloze"] + items["section"]} == {0, 1, 2, 3}


def test_a_heading_is_written_where_it_is_new() -> None:
    record = document("x", "one", ("A", "two"))
    record["sections"] += [
        {"heading": ["A", "B"], "text": "three"},
        {"heading": ["A", "C"], "text": "four"},
        {"heading": ["D", "E"], "text": "five"},
    ]
    text = as_text(record)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# x", "## Description", "## A", "### B", "### C", "## D", "### E",
    ]  # fmt: skip


def test_n_grams_are_of_words_whatever_their_case_and_signs() -> None:
    long = "The quick, brown fox jumps over the lazy dog."
    wanted = np.unique(ngram_hashes(long, 4))
    assert len(wanted) == 6
    assert len(seen_in(["and the QUICK brown -- fox jumped"], wanted, 4)) == 1
    assert len(seen_in(["fox brown quick the"], wanted, 4)) == 0
    assert len(seen_in(["anything"], np.empty(0, np.uint64), 4)) == 0
