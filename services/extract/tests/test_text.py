import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from capstan.extract import text as normal

anything = st.text(st.characters(codec=None))
FENCED = re.compile(r"^(`{3,})(\w*)\n(.*)\n\1$", re.DOTALL)


@given(anything)
def test_clean_is_idempotent_and_leaves_nothing_unseen(raw: str) -> None:
    cleaned = normal.clean(raw)
    assert normal.clean(cleaned) == cleaned
    cleaned.encode("utf-8")
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not [c for c in cleaned if unicodedata.category(c) in ("Cc", "Cs", "Co") and c not in "\n\t"]


@given(anything)
def test_prose_is_one_line_with_single_spaces(raw: str) -> None:
    line = normal.prose(raw)
    assert line == " ".join(line.split())
    assert normal.prose(line) == line


@given(st.lists(st.text("ab·é", min_size=1), max_size=8), st.lists(st.sampled_from(" \t\n\r"), min_size=1))
def test_prose_keeps_every_word(words: list[str], gap: list[str]) -> None:
    assert normal.prose("".join(gap).join(words)).split() == words


@given(anything)
def test_lines_have_no_blank_ones(raw: str) -> None:
    text = normal.lines(raw)
    assert all(line == normal.prose(line) and line for line in text.split("\n")) or text == ""


@given(anything)
def test_code_is_idempotent(raw: str) -> None:
    assert normal.code(normal.code(raw)) == normal.code(raw)


@given(st.lists(st.tuples(st.integers(0, 8), st.text("xy{}", min_size=1)), min_size=1))
def test_code_keeps_columns(rows: list[tuple[int, str]]) -> None:
    code = normal.code("\n".join(" " * indent + row for indent, row in rows))
    least = min(indent for indent, _ in rows)
    assert code.split("\n") == [" " * (indent - least) + row for indent, row in rows]


@given(st.text("`a\n"))
def test_a_fence_ends_only_at_its_end(code: str) -> None:
    fenced = normal.fence(code, "sh")
    match = FENCED.match(fenced)
    assert match is not None
    assert match[3] == code
    assert match[1] not in code


def test_invisible_characters_and_broken_lines() -> None:
    assert normal.prose("co\u00adop\u200berate\r\nnow\u00a0please \ufeff") == "cooperate now please"
    assert normal.clean("e\u0301") == "é"
    assert normal.clean("a\ud800b\ue000c\x00d") == "abcd"


def test_heading_numbers() -> None:
    assert normal.without_number("11.8. Partial Indexes") == "Partial Indexes"
    assert normal.without_number("Chapter 3. Data model") == "Data model"
    assert normal.without_number("E.1. Release 15.2") == "Release 15.2"
    assert normal.without_number("Example 2: To copy a file") == "To copy a file"
    assert normal.without_number("2.6.32 and older") == "2.6.32 and older"
    assert normal.without_number("A. Turing") == "A. Turing"
