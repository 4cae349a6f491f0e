"""Passages: cut where a text has a border, and with the lines that answer in them."""

from capstan.jobs.assistant.data.passages import cut, pieces, windows

TEXT = (
    "A first line of it.\n- one: The first of all entries.\n```\ncode here\nmore\n```\n- two: The last of all of them."
)


def test_a_text_is_cut_at_a_border_and_not_in_code() -> None:
    assert cut("One sentence. Another one that is longer.", 20) == "One sentence."
    assert cut(TEXT, 75) == "A first line of it.\n- one: The first of all entries."
    assert "".join(pieces(TEXT, 60)).replace("\n", "") == TEXT.replace("\n", "")


def test_a_window_begins_at_the_text_or_at_a_line_outside_of_code() -> None:
    found = list(windows(TEXT, 40))
    assert found[0] == "A first line of it."
    assert found[-1] == "- two: The last of all of them."
    assert not [window for window in found if window.startswith(("code", "more"))]
    assert max(map(len, found)) <= 40
