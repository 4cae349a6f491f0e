from capstan.extract.page import Page, Section
from capstan.jobs.corpus.clean import (
    Dropped,
    distinguish_titles,
    drop_boilerplate,
    drop_duplicates,
    verdict,
)
from capstan.jobs.corpus.documents import MAX_ID, Document, document_id
from capstan.jobs.corpus.recipe import Cleaning

RULES = Cleaning(repeated_in=3, keep_headings=["Standards"])
OWN = "Text of its own, long enough to be a document: number "


def document(
    number: int, *sections: Section, source: str = "git-doc", title: str = "T", directory: str = ""
) -> Document:
    own = Section((), f"{OWN}{number}")
    return Document(f"{source}/{directory}{number}", title, source, "MIT", f"{source}:/{number}", [own, *sections])


def test_a_section_that_many_pages_share_is_dropped_from_all() -> None:
    suite = Section(("GIT",), "Part of the  git(1)\nsuite")
    documents = [document(n, suite) for n in range(3)] + [document(9, Section(("GIT",), "Something else"))]
    assert drop_boilerplate(documents, RULES) == {"git-doc": 3}
    assert [len(d.sections) for d in documents] == [1, 1, 1, 2]


def test_what_is_rare_deeper_or_a_fact_is_kept() -> None:
    twice = [document(n, Section(("GIT",), "Part of git")) for n in range(2)]
    deeper = [document(n, Section(("Methods", "close"), "Closes the handle."), source="perl") for n in range(3)]
    facts = [document(n, Section(("STANDARDS",), "POSIX.1-2008."), source="man") for n in range(3)]
    assert drop_boilerplate([*twice, *deeper, *facts], RULES) == {}


def test_sources_are_counted_apart() -> None:
    common = Section(("License",), "As above")
    documents = [document(n, common, source=source) for source in ("a", "b") for n in range(2)]
    assert drop_boilerplate(documents, RULES) == {}


def test_the_first_of_several_equal_documents_stays() -> None:
    one, other, again = document(1), document(2), document(3)
    again.sections = [Section(("Elsewhere",), one.sections[0].text.replace(" ", "\n"))]
    kept, dropped = drop_duplicates([again, other, one], RULES)
    assert [d.id for d in kept] == ["git-doc/1", "git-doc/2"]
    assert dropped == {("git-doc", Dropped.DUPLICATE): 1}


def test_a_document_of_boilerplate_alone_is_dropped() -> None:
    empty = document(1)
    empty.sections = []
    kept, dropped = drop_duplicates([empty], RULES)
    assert kept == []
    assert dropped == {("git-doc", Dropped.EMPTY): 1}


def test_namesakes_get_their_directory() -> None:
    same = [document(1, title="Introduction", directory="ext4/"), document(2, title="Introduction", directory="xfs/")]
    other = document(3, title="Journal")
    distinguish_titles([*same, other])
    assert [d.title for d in [*same, other]] == ["Introduction (ext4)", "Introduction (xfs)", "Journal"]


def test_verdicts() -> None:
    long = [Section((), "word " * 20)]
    assert verdict(Page("t", long, 0.1), RULES) is None
    assert verdict(Page("t", long, 0.9), RULES) is Dropped.LINKS_ONLY
    assert verdict(Page("t", [Section((), "Contents:")], 0.0), RULES) is Dropped.EMPTY
    assert verdict(Page("t", []), RULES) is Dropped.EMPTY


def test_revision_changes_with_the_content_only() -> None:
    assert document(1).record()["revision"] == document(1).record()["revision"]
    assert len(document(1).record()["revision"]) == 32
    revisions = {document(1).record()["revision"], document(1, title="U").record()["revision"]}
    assert len(revisions | {document(1, Section(("A",), "b")).record()["revision"]}) == 3


def test_long_ids_are_cut_and_stay_unique() -> None:
    ids = {document_id("folder", "x" * 600 + end) for end in "ab"}
    assert len(ids) == 2
    assert {len(id) for id in ids} == {MAX_ID}
    assert document_id("git-doc", "git-add") == "git-doc/git-add"
