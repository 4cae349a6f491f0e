"""Citations: whatever the model writes and wherever the stream cuts it."""

import asyncio
import re
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan.generator.citations import CitationBinder
from capstan.generator.embeddings import Vector
from capstan.generator.passages import Passage
from capstan.generator.text import best_quote, sentences
from capstan.generator.verify import Verifier


def passage(text: str, number: int = 1) -> Passage:
    return Passage(f"chunk-{number}", f"doc-{number}", f"Title {number}", ("Section",), text, f"u{number}", "s", "MIT")


PASSAGES = [
    passage("Use git add to stage a file. Staged files are part of the next commit.", 1),
    passage("The pipe system call creates a unidirectional data channel.\nIt returns two descriptors.", 2),
]


async def same_meaning(texts: Sequence[str]) -> list[Vector]:
    """An embedding for which everything means the same: what words decide shows."""
    return [[1.0] for _ in texts]


def bind(*pieces: str, strict: bool = False) -> CitationBinder:
    async def run() -> CitationBinder:
        verifier = Verifier(PASSAGES, same_meaning, min_support=0.6, min_similarity=0.5)
        binder = CitationBinder(PASSAGES, verifier, strict=strict)
        shown = [await binder.feed(piece) for piece in pieces]
        shown.append(await binder.finish())
        assert "".join(shown) == binder.text
        return binder

    return asyncio.run(run())


def test_a_supported_marker_stays_behind_its_sentence() -> None:
    binder = bind("Use git add to stage a file [1]. More follows.")
    assert binder.text.startswith("Use git add to stage a file. [1] More follows.")
    citation = binder.citations[0]
    assert binder.text[citation.start : citation.end] == "[1]"
    assert citation.quote == "Use git add to stage a file."


def test_an_unknown_marker_is_dropped_and_a_wrong_one_corrected() -> None:
    assert bind("You stage a file with git add [7].").text == "You stage a file with git add. [1]"
    assert bind("The pipe system call creates a data channel [1].").text.endswith("channel. [2]")


def test_a_sentence_that_no_passage_supports_gets_no_citation() -> None:
    binder = bind("Bananas ripen faster beside apples [1].")
    assert binder.text == "Bananas ripen faster beside apples."
    assert (binder.citations, [s.supported for s in binder.checked]) == ([], [False])


def test_a_missing_marker_is_supplied() -> None:
    assert bind("Staged files are part of the next commit.\n\nAnd so on").text.startswith(
        "Staged files are part of the next commit. [1]\n\nAnd so on"
    )


def test_code_must_stand_in_the_passage_as_it_is() -> None:
    assert bind("The `pip` system call creates a pipe.").citations == []
    assert bind("The `pipe` system call creates a channel.").text.endswith("[2]")


def test_a_code_block_is_cited_only_if_the_passage_has_each_of_its_lines() -> None:
    said = "To stage a file for the next commit, use:\n```sh\n$ git add\ngit add --stage file commit\n```\n"
    assert bind(said, strict=True).text == "To stage a file for the next commit, use: [1]"
    shown = bind(said.replace("git add --stage file commit\n", ""), strict=True)
    assert shown.text == "To stage a file for the next commit, use: [1]\n```sh\n$ git add\n```\n[1]"
    assert bind(said).text.endswith("git add --stage file commit\n```")


def test_a_strict_answer_shows_supported_sentences_once_and_nothing_else() -> None:
    said = "Sure! Use git add to stage a file [1]. Bananas ripen beside apples.\nUse git add to stage a file [1].\n"
    binder = bind(said + "```\n```\nThe pipe system call creates a data channel.", strict=True)
    assert binder.text == "Use git add to stage a file. [1]\nThe pipe system call creates a data channel. [2]"
    assert [(s.text.split()[0], s.supported, s.start) for s in binder.checked] == [
        ("Use", True, 0),
        ("Bananas", False, None),  # not shown, but told
        ("The", True, 33),
    ]


def test_indexing_in_code_is_not_a_citation() -> None:
    assert "`argv[1]`" in bind("Read `argv[1]` to stage a file with git add.").text
    assert "argv[9]" in bind("Read argv[9] first.").text


def test_a_sentence_is_shown_when_it_is_complete_and_not_before() -> None:
    async def run() -> list[str]:
        binder = CitationBinder(PASSAGES, Verifier(PASSAGES, same_meaning, min_support=0.6, min_similarity=0.5))
        return [await binder.feed(p) for p in ("Use git add to stage a file [", "1", "]", ".", " ", "[", "1", "] And")]

    assert asyncio.run(run()) == ["", "", "", "", "", "", "", "Use git add to stage a file. [1]"]


def test_a_marker_with_an_address_behind_it_is_a_marker() -> None:
    assert bind("Use git add to stage a file [1](http://evil.example/x).").text == "Use git add to stage a file. [1]"
    assert bind("Use git add to stage a file.[1] More.").text == "Use git add to stage a file. [1] More."


def test_each_sentence_is_reported_with_its_place() -> None:
    binder = bind("Use git add to stage a file [1]. Bananas ripen beside apples.")
    assert [(s.supported, s.citations) for s in binder.checked] == [(True, (1,)), (False, ())]
    assert [binder.text[s.start : s.end] for s in binder.checked] == [s.text for s in binder.checked]


_VISIBLE_MARKER = re.compile(r"(?<!\w)\[\d{1,3}\]")


def markers_in_prose(text: str) -> list[tuple[int, int]]:
    """Where a reader sees a marker: code, in blocks or ticks, has none."""
    blank = re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", lambda m: " " * len(m.group()), text)
    return [match.span() for match in _VISIBLE_MARKER.finditer(blank)]


PARTS = re.split(
    r"\|",
    "Use git add to stage a file|The pipe system call creates a channel|It does not return| word|. |! |.|:|\n|\n\n|"
    "```|```sh\n|\n```\n|`|`x`|[1]| [2]|[|]|[1, 2]|[99]|[ 1 ]|[1](http://x)|(|)|![a](http://evil/x)|[b](u1)|"
    "<img src=x>|<|>|a[0]|e.g. |1. |- |\u200b|é|\u202e",
)
anything = st.lists(st.sampled_from(PARTS), max_size=25) | st.lists(st.text(max_size=8), max_size=8)


@settings(deadline=None)
@given(anything, st.booleans(), st.data())
@example(["[", "[1]", "2]", ". "], False, None)
def test_ids_agree_and_the_stream_may_be_cut_anywhere(
    parts: list[str], strict: bool, data: st.DataObject | None
) -> None:
    text = "".join(parts)
    whole = bind(text, strict=strict)
    cut = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10))) if data else range(len(text))
    streamed = bind(*(text[a:b] for a, b in pairwise([0, *cut, len(text)])), strict=strict)
    assert (streamed.text, streamed.citations, streamed.checked) == (whole.text, whole.citations, whole.checked)
    prose = markers_in_prose(whole.text)
    places = [(citation.start, citation.end) for citation in whole.citations]
    assert places == prose  # no marker without an annotation, no annotation without its marker
    for citation in whole.citations:
        assert whole.text[citation.start : citation.end] == f"[{citation.number}]"
        assert 1 <= citation.number <= len(PASSAGES)
        assert citation.quote in PASSAGES[citation.number - 1].text
    for sentence in whole.checked:
        assert sentence.start is None or whole.text[sentence.start : sentence.end] == sentence.text
        assert sentence.supported == bool(sentence.citations)


def test_sentences_do_not_end_at_abbreviations_or_inside_names() -> None:
    text = "Set user.name, e.g. with git config. Then commit! Version 2.39 works?"
    assert sentences(text) == ["Set user.name, e.g. with git config.", "Then commit!", "Version 2.39 works?"]


@settings(deadline=None)
@given(st.text(max_size=300), st.lists(st.sampled_from(["git", "add", "pipe"])))
def test_a_quote_is_always_the_passages_own_text(text: str, wanted: list[str]) -> None:
    assert best_quote(wanted, text) in text
