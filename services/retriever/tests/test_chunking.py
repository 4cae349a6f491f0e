import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.retriever.chunking import Chunk, Section, chunk_sections


def count(texts: Sequence[str]) -> list[int]:
    """Like WordPiece: words of more than six letters are several tokens, punctuation is one each."""
    return [sum(1 + len(word) // 6 for word in re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def chunk(*sections: Section, limit: int = 30, small: int = 8) -> list[Chunk]:
    return chunk_sections(sections, count, limit=limit, small=small)


words = st.text(st.sampled_from("ab .,\n`~\t-é"), max_size=40) | st.sampled_from(
    [
        "A sentence ends. ",
        "\n\n",
        "```\ncode here\n```\n",
        "~~~\nx\n",
        "word ",
        "x" * 80,
        "one two three four five six ",
    ]
)
texts = st.lists(words, max_size=14).map("".join)
headings = st.lists(st.sampled_from(["Top", "Usage", "Notes"]), max_size=3).map(tuple)
documents = st.lists(st.builds(Section, headings, texts), max_size=6)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@given(documents, st.integers(4, 40), st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_no_text_is_lost_repeated_or_reordered(sections: list[Section], limit: int, small: int) -> None:
    chunks = chunk(*sections, limit=limit, small=small)
    pieces = "".join(text for c in chunks for _, text in c.parts)
    assert squeezed(pieces) == squeezed("".join(section.text for section in sections))


@given(documents, st.integers(4, 40), st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_every_chunk_is_within_the_limit_and_none_is_empty(sections: list[Section], limit: int, small: int) -> None:
    for c in chunk(*sections, limit=limit, small=small):
        assert c.text.strip()
        assert count([c.text])[0] <= limit


@given(documents)
@settings(max_examples=60, deadline=None)
def test_a_chunk_stands_under_the_heading_its_text_came_from(sections: list[Section]) -> None:
    known = {(section.heading, squeezed(section.text)) for section in sections}
    for c in chunk(*sections):
        for tail, text in c.parts:
            assert any(h == c.heading + tail and squeezed(text) in whole for h, whole in known)


def test_a_section_that_fits_is_one_chunk_as_it_was_written() -> None:
    text = "First line.\n\n```\nif x:\n    y()\n```\n\nLast line."
    assert [c.text for c in chunk(Section(("Usage",), text))] == [text]


def test_code_stays_whole_when_it_fits() -> None:
    code = "```\n" + "call()\n" * 5 + "```"
    text = f"{'prose before the code. ' * 4}\n\n{code}\n\n{'prose after the code. ' * 4}"
    assert sum(code in c.text for c in chunk(Section((), text), limit=40)) == 1


def test_long_code_is_cut_between_lines() -> None:
    lines = [f"step_{n}(one, two)" for n in range(30)]
    chunks = chunk(Section((), "```\n" + "\n".join(lines) + "\n```"))
    assert len(chunks) > 1
    assert [line for c in chunks for line in c.text.splitlines() if line.startswith("step")] == lines


def test_prose_is_cut_between_sentences() -> None:
    sentences = [f"Sentence number {n} says a little something." for n in range(12)]
    chunks = chunk(Section((), " ".join(sentences)))
    assert all(c.text.startswith("Sentence") and c.text.endswith(".") for c in chunks)


def test_pieces_of_a_long_section_are_of_about_equal_size() -> None:
    sizes = [c.tokens for c in chunk(Section((), "a word. " * 100), limit=40)]
    assert min(sizes) > 0.6 * max(sizes)


def test_small_siblings_are_joined_under_their_parent_and_keep_their_names() -> None:
    chunks = chunk(*(Section(("Options", f"-{x}"), f"means {x}") for x in "abc"))
    assert [c.heading for c in chunks] == [("Options",)]
    assert chunks[0].text == "-a\nmeans a\n\n-b\nmeans b\n\n-c\nmeans c"


@pytest.mark.parametrize("other", [("Other", "-b"), ("Options",), ("Options", "-a", "deep")])
def test_sections_of_different_parents_are_not_joined(other: tuple[str, ...]) -> None:
    assert len(chunk(Section(("Options", "-a"), "means a"), Section(other, "means b"))) == 2


def test_a_document_without_text_has_no_chunks() -> None:
    assert chunk(Section(("Empty",), " \n\n\t "), Section((), "")) == []
