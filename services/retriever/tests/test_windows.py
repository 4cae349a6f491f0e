import re
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.retriever.chunking import Section
from capstan.retriever.windows import chunk_windows, running_text, windows


def count(texts: Sequence[str]) -> list[int]:
    """Like WordPiece: long words are several tokens, punctuation is one each."""
    return [sum(1 + len(word) // 6 for word in re.findall(r"\w+|[^\w\s]", text)) for text in texts]


texts = st.lists(
    st.text(st.sampled_from("ab .,\n`\t-é"), max_size=20)
    | st.sampled_from(["word ", "\n\n", "x" * 80, "one two six "]),
    max_size=20,
).map("".join)
sizes = st.tuples(st.integers(4, 30), st.integers(0, 29)).filter(lambda pair: pair[1] < pair[0])


@given(texts, sizes)
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_text_in_order_within_size_and_overlap(text: str, limits: tuple[int, int]) -> None:
    size, overlap = limits
    found = windows(text, count, size=size, overlap=overlap)
    for start, end, tokens in found:
        assert count([text[start:end]]) == [tokens]
        assert 0 <= tokens <= size
        assert text[start:end] == text[start:end].strip()
    covered = 0
    for start, end, _ in found:
        assert not text[covered:start].strip()  # nothing between two windows is lost
        assert end > covered  # each goes on beyond the one before it
        covered = end
    assert not text[covered:].strip()
    for (_, end, _), (start, _, _) in pairwise(found):
        assert count([text[start:end]])[0] <= overlap


def test_windows_are_as_full_as_they_can_be_and_share_their_overlap() -> None:
    text = " ".join(f"w{n}" for n in range(25))
    found = windows(text, count, size=10, overlap=3)
    assert [text[start:end].split()[0] for start, end, _ in found] == ["w0", "w7", "w14", "w21"]
    assert [tokens for *_, tokens in found] == [10, 10, 10, 4]


def test_a_window_crosses_sections_and_stands_under_the_one_where_it_starts() -> None:
    sections = [
        Section((), "one two three"),
        Section(("Usage",), "four five six"),
        Section(("Usage", "Flags"), "seven eight nine"),
        Section(("Notes",), "ten"),
    ]
    text, starts = running_text(sections)
    assert text == "one two three\n\nUsage\nfour five six\n\nFlags\nseven eight nine\n\nNotes\nten\n\n"
    assert [text[start:].split()[0] for start in starts] == ["one", "Usage", "Flags", "Notes"]
    chunks = chunk_windows(sections, count, size=5, overlap=0)
    assert [(c.heading, c.text) for c in chunks] == [
        ((), "one two three\n\nUsage\nfour"),
        (("Usage",), "five six\n\nFlags\nseven eight"),
        (("Usage", "Flags"), "nine\n\nNotes\nten"),
    ]


def test_a_document_without_text_has_no_windows() -> None:
    assert chunk_windows([Section((), " \n ")], count, size=5, overlap=2) == []
    assert chunk_windows([], count, size=5, overlap=2) == []
