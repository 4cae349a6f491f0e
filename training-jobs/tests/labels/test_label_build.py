import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.evaluate.questions import LABELS, load_questions
from capstan.jobs.labels.__main__ import main
from capstan.jobs.labels.build import build_labels, self_contained
from capstan.jobs.labels.known import title_items
from capstan.jobs.labels.links import Known
from capstan.jobs.labels.recipe import LabelRecipe, load_label_recipe

POD = """=head2 How do I sort?

See L<perlfunc/"sort">, L<perlop> and L<Not::There>, it is explained at length there.

=head2 How do I print it to the screen?

L<perlfunc> says so, and also what happens when the disk is full.

=head2 Short one?

L<perlop>, of course, which has all that is to be said about it.

=head2 Why is nothing linked here at all?

Because this answer goes to L<https://example.org> and nowhere else.

=head2 What is everywhere?

L<perlfunc> L<perlop> L<perlvar> and many more words about each of them.
"""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Labels of one page of a package, whose archive is unpacked already."""
    corpus, cache = tmp_path / "corpus", tmp_path / "cache"
    corpus.mkdir()
    documents = [
        {"id": f"perl-doc/{name}.1", "title": f"{name}(1): all about it", "source": "perl-doc", "sections": sections}
        for name, sections in (
            ("perlfunc", [{"heading": ["sort"], "text": "t"}]),
            ("perlop", []),
            ("perlvar", []),
            ("perl", []),
        )
    ]
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    (corpus / "documents.jsonl").write_text(lines)
    archive = cache / "archives/perl-doc_1_all.deb"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"deb")
    sha256 = hashlib.sha256(b"deb").hexdigest()
    pod = cache / f"unpacked/perl-doc-{sha256[:16]}/usr/share/perl/5/pod/perlfaq1.pod"
    pod.parent.mkdir(parents=True)
    pod.write_text(POD)
    origin = {"name": "perl-doc", "version": "1", "archive": archive.name, "sha256": sha256}
    origin |= {"license": "Artistic-1.0-Perl", "license_file": "usr/share/doc/perl-doc/copyright"}
    (corpus / "manifest.json").write_text(json.dumps({"name": "c", "sources": [origin]}))
    source = {"package": "perl-doc", "root": "usr/share/perl/*/pod", "layout": "pod", "product": "Perl"}

    def run(out: str = "labels", corpus_name: str = "c", **changes: Any) -> dict[str, Any]:
        sources = [{**source, "dev": ["perlfaq1.pod"], "test": [], **changes}]
        limits = {"max_documents": 2, "withhold_max_documents": 1}
        recipe = {"corpus": corpus_name, "limits": limits, "known_items": 2, "sources": sources}
        return build_labels(LabelRecipe.model_validate(recipe), corpus, cache, tmp_path / out)

    return run


def questions(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "labels/questions.jsonl").read_text().splitlines()]


def test_questions_have_the_documents_that_their_answers_link_to(build: Callable[..., Any], tmp_path: Path):
    manifest = build()
    sort, printing = questions(tmp_path)
    assert sort["question"] == "In Perl, how do I sort?"
    assert sort["documents"] == ["perl-doc/perlfunc.1", "perl-doc/perlop.1"]
    assert sort["sections"] == [{"document": "perl-doc/perlfunc.1", "heading": "sort"}]
    assert (sort["split"], sort["license"]) == ("dev", "Artistic-1.0-Perl")
    assert sort["url"] == "perl-doc:/usr/share/perl/5/pod/perlfaq1.pod"
    assert (sort["withhold"], printing["withhold"]) == (False, True)  # two documents answer the first
    assert manifest["sources"][0]["dropped"] == {
        "heading too short": 1,
        "no link into the corpus": 1,
        "too many documents": 1,
    }


def test_the_manifest_is_of_these_very_questions(build: Callable[..., Any], tmp_path: Path):
    manifest = build()
    written = (tmp_path / "labels/questions.jsonl").read_bytes()
    assert manifest["questions_sha256"] == hashlib.sha256(written).hexdigest()
    assert manifest == json.loads((tmp_path / "labels/manifest.json").read_text())
    build(out="again")
    assert (tmp_path / "again/questions.jsonl").read_bytes() == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus_name": "other"}, "does not hold the corpus other"),
        ({"package": "ruby-doc"}, "no package ruby-doc"),
        ({"dev": ["perlfaq7.pod"]}, "no page usr/share/perl/"),
    ],
)
def test_what_is_missing_is_named(build: Callable[..., Any], changes: dict[str, Any], message: str):
    with pytest.raises(CorpusError, match=message):
        build(**changes)


def test_a_page_on_both_sides_is_refused(tmp_path: Path):
    recipe = tmp_path / "labels.yaml"
    source = {"package": "p", "root": "r", "layout": "pod", "product": "P", "dev": ["a.pod"], "test": ["a.pod"]}
    recipe.write_text(yaml.safe_dump({"corpus": "c", "sources": [source]}))
    with pytest.raises(CorpusError, match=r"a\.pod is in dev and in test"):
        load_label_recipe(recipe)


def test_a_corpus_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("CAPSTAN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["labels", "build", "--out", str(tmp_path / "out")])
    assert main() == 2
    assert "build it first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("heading", "question"),
    [
        ("How do I sort?", "In Perl, how do I sort?"),
        ("What's a closure?", "In Perl, what's a closure?"),
        ("How do I sort in perl?", "How do I sort in perl?"),
        ("My program is slow", "Perl: My program is slow"),
    ],
)
def test_a_question_names_its_product(heading: str, question: str):
    assert self_contained(heading, "Perl") == question


def test_a_title_that_two_documents_share_is_no_known_item():
    titles = {"a": "Linux kernel: Kernel driver one two", "b": "open(2): open a file", "c": "open(3): open a file"}
    documents = {name: Known(name, title, "s", ()) for name, title in titles.items()}
    assert [(item["question"], item["documents"]) for item in title_items(documents, 5)] == [
        ("Kernel driver one two", ["a"])
    ]


def test_the_committed_labels_keep_what_was_promised():
    manifest = json.loads((LABELS / "manifest.json").read_text())
    for name in ("questions", "known_items"):
        assert hashlib.sha256((LABELS / f"{name}.jsonl").read_bytes()).hexdigest() == manifest[f"{name}_sha256"]
    asked = load_questions(LABELS)
    assert len(asked) >= 220
    assert len({question.id for question in asked}) == len(asked)
    assert sum(question.withhold for question in load_questions(LABELS, "test")) >= 60
    records = [json.loads(line) for line in (LABELS / "questions.jsonl").read_text().splitlines()]
    pages = {split: {(r["source"], r["page"]) for r in records if r["split"] == split} for split in ("dev", "test")}
    assert not pages["dev"] & pages["test"]
    assert not [document for r in records for document in r["documents"] if "faq" in document.rpartition("/")[2]]
